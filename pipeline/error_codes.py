"""Row error codes: every `error_code` that a manifest can hold, with its meaning.

A row that failed or was rejected by a stage names one of these codes. An operator that is not part
of Overpaint may answer with codes of its own. An exception that no operator foresaw becomes the
name of its class, such as `out_of_memory_error`.
"""

from overpaint.pipeline.conditions import CONDITIONS

CONDITION_ERRORS: dict[str, str] = {
    "missing": "The row has no `{}` where it is needed, or no file is at its URI.",
    "forbidden": "The recipe's `allow_` fields or the store forbid reading `{}`.",
    "too_large": "The file of `{}` has more than `max_bytes` bytes or `max_pixels` pixels.",
    "timeout": "The file of `{}` did not arrive within `timeout_s` seconds.",
    "unreachable": "The server of `{}` cannot be reached, or answers with an error.",
    "unreadable": "The file of `{}` is not an image that can be read.",
    "ambiguous": "The colours of `{}` and its alpha channel mark different regions.",
}
"""Meanings of the codes `<condition>_<reason>`, by reason; `{}` is the condition's column."""


def _condition_errors() -> dict[str, str]:
    return {
        f"{condition.name}_{reason}": meaning.format(condition.table_name)
        for condition in CONDITIONS.values()
        for reason, meaning in CONDITION_ERRORS.items()
        if reason == "missing" or condition.image is not None
        if reason != "ambiguous" or condition.form == "weights"
    }


ROW_ERRORS: dict[str, str] = {
    # A source, or the image that it holds.
    "source_missing": "No source is at this URI.",
    "source_forbidden": "The recipe's `allow_` fields or the source's store forbid reading it.",
    "source_too_large": "The source has more than `max_bytes` bytes.",
    "source_timeout": "The source did not arrive within `timeout_s` seconds.",
    "source_unreachable": "The source's server cannot be reached, or answers with an error.",
    "source_null": "The table's row holds no picture.",
    "source_ambiguous": "The tar has several members of that name.",
    "source_unreadable": "The tar or table that holds the source is cut off, damaged or replaced.",
    "image_empty": "The image file has no bytes.",
    "image_unreadable": "The file is not an image in a format that can be read.",
    "image_truncated": "The image file ends or breaks before its last pixel.",
    "image_too_large": "The image has more than `max_pixels` pixels.",
    "image_range": "The image's numbers are in none of the ranges 0 to 1, 0 to 255, 0 to 65535.",
    "class_score": "The classifier's `class_score` of the source is out of the stage's bounds.",
    "near_duplicate": "The source is a near-duplicate of one that is kept, which is named.",
    "dedupe_unknown": "The table of `dedupe` does not name the row's source: write it anew.",
    # A mask.
    "mask_size": "The mask does not have the proportions of its upright source.",
    "mask_values": "No value of the mask reaches half of the range, such as where it has labels.",
    "mask_empty": "The mask marks nothing that may change, or less than the recipe asks for.",
    "mask_phrase_missing": "Neither a `mask_phrase` nor the instruction says what to look for.",
    "mask_prompt_missing": "The row has neither `mask_box` nor `mask_points`.",
    "mask_prompt_invalid": "The row's `mask_box` or `mask_points` are not what they should be.",
    # A source's class.
    # An instruction.
    "instruction_unknown": "The instruction gives no edit type or prompt; `on_unknown` is `fail`.",
    "instruction_too_long": "The question has more than `max_prompt_tokens` tokens.",
    "instruction_forbidden": "The endpoint of `instruct` refuses requests: by URL, model or key.",
    # A proposed edit.
    "nothing_proposed": "There is neither an edit that `propose` can write nor an `instruction`.",
    "proposal_too_long": "The question of `propose` has more than `max_prompt_tokens` tokens.",
    "proposal_forbidden": "The endpoint of `propose` refuses requests: by URL, model or key.",
    # Boxes, points and concepts.
    "boxes_invalid": "One of the row's `boxes` is not left, top, right, bottom with an area.",
    "points_invalid": "One of the row's `points` is not from_x, from_y, to_x, to_y.",
    "edit_concepts_invalid": "One of `edit_concepts` has no prompt, or a number out of bounds.",
    # Any condition of an edit, such as a mask, a sketch or references.
    **_condition_errors(),
    "references_invalid": "One of the row's `references` is longer than its editor takes.",
    # An edit.
    "prompt_missing": "The row lacks the prompt or instruction that the editing method reads.",
    "prompt_too_long": "A prompt is longer than the text encoder sees; `long_prompt` is `fail`.",
    "phrase_not_in_prompt": "The words for an object are not in the prompt, in their order.",
    "value_missing": "The row lacks a value that the editing method needs.",
    "method_unknown": "The row names a method that its stage lacks; planning refuses such a table.",
    "edit_params_invalid": "The row's own settings are not JSON, or not fields of its method.",
    "inversion_mismatch": "The inversion was made with other weights than the edit's.",
    "nan_in_result": "A stage computed values that are not finite numbers.",
    "bad_key": "The row's key is not 32 hex digits, so it cannot name files.",
    # An edit by a server.
    "refused": "The server refuses to make the edit: by its policy on content.",
    "endpoint_bad_request": "The server does not take the row's request; its words are given.",
    "endpoint_busy": "The server says that it is busy for longer than `patience_s`.",
    "endpoint_timeout": "The server did not answer within `timeout_s`, `attempts` times.",
    "endpoint_unreachable": "The server cannot be reached, breaks off, or answers with an error.",
    "endpoint_answer_unreadable": "The server's answer holds no whole image.",
    "endpoint_answer_size": "The server's image has other proportions than were asked for.",
    # A score or a judgement.
    "edited_size": "The edited image is not of its source's size, or too long for its format.",
    "clip_not_finite": "CLIP computed values that are not finite numbers.",
    "judge_instruction_missing": "The row has neither an `instruction` nor a `target_prompt`.",
    "judge_forbidden": "The judge's endpoint refuses the request: by its URL, model or key.",
    "judge_prompt_too_long": "The judge's prompt has more than `max_prompt_tokens` tokens.",
    # A stage or its worker.
    "bad_answer": "The operator's answer is not the columns, types and rows that it declares.",
    "worker_died": "The row alone crashed its worker, or hung in it, `max_attempts` times.",
}
"""Each code and its meaning, in one sentence."""
