"""What a search makes higher where its recipe does not say: an objective and guards, by the kind of the samples.

Knows names of metrics and guards, and why these. `tests/score/test_cheats.py` holds them against every known cheat and
tells by how much each of them loses.
"""

# Captions: CIDEr-D. An answer has to say what this picture's references agree on and other pictures' do not, at their
# length; one word, an empty phrase or the best caption for all pictures is worth little. ROUGE-L gives these most of
# what an honest caption gets, and chrF half.
# Questions: whether the answer says a reference, in a word or in a sentence. CIDEr-D is not for one word, exact match
# not for sentences; ROUGE-L and chrF pay for style: in ROUGE-L です alone beats an honest sentence on ja-scenes.
DEFAULT_OBJECTIVES: dict[str, dict[str, float]] = {
    "captions": {"cider": 1.0},
    "questions": {"contains": 1.0},
    "choices": {"choice": 1.0},
}

# A tenth may be in another script: names, signs. An honest answer repeats less than a fifth of itself (traits.py).
# Answers to questions may be longer for their references: nine of ten of EvoVLM-JP's on JA-VG-VQA-500 are within 3.
# Grounding: a caption that fits other pictures as well is worth nothing, and telling takes no time. With 1 the score
# of questions is the score that is left without that with other pictures: an answer that names what is likely gains
# with both, so that guessing never pays. It takes up to twice the time; without it, a list of the likely answers to
# each kind of question beats an honest model that is right in two answers of three.
# A choice is a letter, in no language and of no length.
DEFAULT_GUARDS: dict[str, dict[str, float]] = {
    "captions": {"japanese": 90.0, "length_ratio": 2.0, "repetition": 0.2, "grounding": 0.1},
    "questions": {"japanese": 90.0, "length_ratio": 3.0, "repetition": 0.2, "grounding": 1.0},
    "choices": {"repetition": 0.2, "grounding": 1.0},
}


def default_guards(kind: str, language: str) -> dict[str, float]:
    """The guards of a default objective; answers that are to be in another language need not be Japanese."""
    return {name: limit for name, limit in DEFAULT_GUARDS[kind].items() if name != "japanese" or language == "ja"}
