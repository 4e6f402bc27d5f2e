"""What editing methods share: guidance, masking and attention edits."""
