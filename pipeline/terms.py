"""Terms of an editor's licence, in a word, and what they mean for pairs that train another model.

A recipe names them, and `plan` repeats them. They are what the publishers state, and no advice on
law; the rights in the sources count beside them.
"""

TERMS: dict[str, str] = {
    "apache-2.0": "the editor's licence lets its pictures train other models, commercially too",
    "mit": "the editor's licence lets its pictures train other models, commercially too",
    "openrail": "pictures may train other models, within the licence's list of forbidden uses",
    "research": "for research alone: pairs, and what is trained on them, are not for products",
    "non-commercial": (
        "not for commercial use; licences of this kind can also forbid training a competing model "
        "on the pictures, as FLUX's do: read them before any pair trains an editor"
    ),
    "unknown": "the licence was not read: find out whether pictures may train other models",
}
"""Meanings of the terms for training pairs."""
