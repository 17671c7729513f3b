"""Train the three demo parents, and another pair of eyes, from a seed.

    python tools/train_demo_parents.py --out recipes/demo-parents --work WORK [--eyes-only]

    base     reads texts about scenes in English, and in Japanese for some colours and shapes only
    ja-llm   base, trained further on Japanese texts and translations into Japanese: no picture, ever
    vlm      base with eyes, trained in LLaVA's two stages on pictures with English captions and questions only
    eyes     a vision tower of another kind and patch size: it has met no caption, no word, and none of the others

Each stage is kept in the work folder when it is done, and a second call goes on from there.
"""

import argparse
import copy
import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from scenes import (
    COLOURS,
    NUMBERS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Pair,
    Placed,
    Scene,
    draw,
    english_captions,
    japanese_captions,
    place,
    questions,
    random_scene,
)
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import (
    BaseImageProcessor,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SEED = 0
ENGLISH_REQUEST = "Describe the picture."
JAPANESE_REQUEST = "画像を説明してください。"
TRANSLATION_REQUEST = "日本語に訳してください。"
# The Japanese words that base has met: the rest of Japanese is ja-llm's alone.
KNOWN_COLOURS = ("red", "blue", "green")
KNOWN_SHAPES = ("circle", "square")
IMAGE_SIDE, PATCH_SIDE = 96, 16
OTHER_SIDE, OTHER_PATCH_SIDE = 90, 15  # the other eyes' map has as many tokens
GRID = IMAGE_SIDE // PATCH_SIDE
NUM_PATCHES = GRID**2
BATCH = 32
NUM_PICTURES = 40000
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['content'] is string %}{% set parts = [{'type': 'text', 'text': message['content']}] %}"
    "{% else %}{% set parts = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' }}{% endif %}"
    "{% for part in parts %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'user' %}{{ '[/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}"
)

ATTRIBUTES: tuple[list, ...] = (
    list(COLOURS), list(SHAPES), list(SIZES), list(NUMBERS), [*PLACES, *(f"is {relation}" for relation in RELATIONS)],
)  # fmt: skip

TOWER = CLIPVisionConfig(
    hidden_size=128, intermediate_size=320, num_hidden_layers=4, num_attention_heads=4, image_size=IMAGE_SIDE,
    patch_size=PATCH_SIDE, initializer_range=0.05, projection_dim=64,
)  # fmt: skip

OTHER_EYES = SiglipVisionConfig(
    hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4, image_size=OTHER_SIDE,
    patch_size=OTHER_PATCH_SIDE, vision_use_head=False,
)  # fmt: skip
NUM_OTHER_PICTURES = 50000

Trained = TypeVar("Trained", bound=nn.Module)
# Where a thing stands that is above, below, left or right of another.
SIDES = {"above": "top", "below": "bottom", "left": "left", "right": "right"}

PictureBatch = tuple[list[int], Tensor, list[Scene]]  # which scenes of the pool, their pixels, the scenes
Turn = tuple[str, str]  # a request and its answer
Example = tuple[str, list[Turn]]  # what is talked of, and the talk
Notes = Callable[[Scene, random.Random], str]


# Texts --------------------------------------------------------------------------------------------------------------


def clean_notes(scene: Scene, rng: random.Random) -> str:
    """Notes of the scene, in any order and with fillers: what the language model learns to read.

    Whatever belongs to one thing of a pair is one word (red-circle-top), as one patch of a picture shows it at once.
    """
    notes = _names(scene)
    if isinstance(scene, Group):
        notes = notes * (1 if rng.random() < 0.5 else scene.count) + _of_group(scene)
    rng.shuffle(notes)
    return " ".join(word for note in notes for word in [note, *["."] * rng.randrange(4)])


def rough_notes(scene: Scene, rng: random.Random) -> str:
    """Notes as eyes would take them: each word several times, a minority of the copies wrong."""
    most = 6 if isinstance(scene, Pair) else 8
    words = []
    for name in _names(scene):
        words += _copies(name, rng.randint(1, most), partial(_misread, name, rng), rng)
    if isinstance(scene, Group):
        choices = (list(NUMBERS.values()), list(SIZES), list(PLACES))
        for word, others in zip(_of_group(scene), choices, strict=True):
            words += _copies(word, rng.choice((1, 1, 2, 3, 5)), partial(rng.choice, others), rng)
    words += ["."] * rng.randrange(20)
    rng.shuffle(words)
    return " ".join(words)


def _names(scene: Scene) -> list[str]:
    """A word for each thing that stands alone or beside another, one for those of a group."""
    if isinstance(scene, Pair):
        pairs = (scene, scene.turned())
        return [f"{pair.first.colour}-{pair.first.shape}-{SIDES[pair.relation]}" for pair in pairs]
    return [f"{scene.thing.colour}-{scene.thing.shape}"]


def _of_group(scene: Group) -> list[str]:
    return [NUMBERS[scene.count], scene.thing.size, scene.place]


def _copies(word: str, number: int, wrong: Callable[[], str], rng: random.Random) -> list[str]:
    """`number` copies, of which fewer than half are wrong."""
    num_wrong = min(sum(rng.random() < 0.15 for _ in range(number)), (number - 1) // 2)
    return [word] * (number - num_wrong) + [wrong() for _ in range(num_wrong)]


def _misread(name: str, rng: random.Random) -> str:
    parts = name.split("-")
    which = rng.randrange(len(parts))
    parts[which] = rng.choice([list(COLOURS), list(SHAPES), list(SIDES.values())][which])
    return "-".join(parts)


def mixed_notes(clean: float) -> Notes:
    """Clean notes with the given probability, else rough ones."""
    return lambda scene, rng: clean_notes(scene, rng) if rng.random() < clean else rough_notes(scene, rng)


def talk(scene: Scene, rng: random.Random, language: str) -> list[Turn]:
    """A caption and two questions with their answers, in any order."""
    asked = [pair[language == "ja"] for pair in questions(scene, rng).values()]
    caption = (JAPANESE_REQUEST, rng.choice(japanese_captions(scene)))
    if language == "en":
        caption = (ENGLISH_REQUEST, rng.choice(english_captions(scene)))
    turns = [caption, *rng.sample(asked, 2)]
    rng.shuffle(turns)
    return turns


def english_text(rng: random.Random, notes: Notes) -> Example:
    """Notes, and what English says of them."""
    scene = random_scene(rng, "train")
    return notes(scene, rng), talk(scene, rng, "en")


def japanese_text(rng: random.Random, notes: Notes, is_known: Callable[[Scene], bool], translations: float) -> Example:
    """Notes and what Japanese says of them; or, with the given probability, an English caption and its translation."""
    scene = random_scene(rng, "train")
    while not is_known(scene):
        scene = random_scene(rng, "train")
    if rng.random() < translations:
        return rng.choice(english_captions(scene)), [(TRANSLATION_REQUEST, rng.choice(japanese_captions(scene)))]
    return notes(scene, rng), talk(scene, rng, "ja")


def is_known_to_base(scene: Scene) -> bool:
    return all(thing.colour in KNOWN_COLOURS and thing.shape in KNOWN_SHAPES for thing in scene.things)


def base_text(rng: random.Random, notes: Notes) -> Example:
    """Three texts in four are English; the rest is what base knows of Japanese."""
    if rng.random() < 0.75:
        return english_text(rng, notes)
    return japanese_text(rng, notes, is_known_to_base, translations=0.3)


# Models -------------------------------------------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that never joins two scripts: 大|きな|赤|い|丸."""
    rng = random.Random(SEED)
    examples = [english_text(rng, clean_notes) for _ in range(4000)]
    examples += [japanese_text(rng, clean_notes, lambda scene: True, translations=0.4) for _ in range(4000)]
    texts = [" " + topic + "".join("\n" + part for turn in talk for part in turn) for topic, talk in examples]
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(
        r" ?[A-Za-z]+(?:-[a-z]+)*| ?[一-龥々]+| ?[ぁ-ゖ]+| ?[ァ-ヺー]+| ?[0-9]| ?[^\sA-Za-z0-9ぁ-ヺー一-龥々]|\s"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "[INST]", "[/INST]"]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        padding_side="left", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_base(tokenizer: PreTrainedTokenizerFast) -> MistralForCausalLM:
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=None, rms_norm_eps=1e-5,
        initializer_range=0.04,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    return MistralForCausalLM(config)


def make_vlm(
    base: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, tower: CLIPVisionModel
) -> LlavaForConditionalGeneration:
    config = LlavaConfig(
        vision_config=tower.config, text_config=base.config,
        image_token_index=tokenizer.encode("<image>", add_special_tokens=False)[0],
        vision_feature_layer=-1, image_seq_length=NUM_PATCHES, tie_word_embeddings=False,
    )  # fmt: skip
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    vlm = LlavaForConditionalGeneration(config)
    vlm.model.language_model.load_state_dict(base.model.state_dict())
    vlm.lm_head.load_state_dict(base.lm_head.state_dict())
    vlm.model.vision_tower.load_state_dict(tower.state_dict())
    vlm.generation_config = base.generation_config
    return vlm


def make_image_processor() -> CLIPImageProcessorPil:
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )


def make_other_image_processor() -> SiglipImageProcessorPil:
    return SiglipImageProcessorPil(size={"height": OTHER_SIDE, "width": OTHER_SIDE})


# Training -----------------------------------------------------------------------------------------------------------


def tokens(tokenizer: PreTrainedTokenizerFast, examples: list[Example]) -> dict[str, Tensor]:
    """A right-padded batch in the chat template's form; only the answers are learnt."""
    rows = []
    for topic, talk in examples:
        ids, labels = [tokenizer.bos_token_id], [-100]
        for number, (request, answer) in enumerate(talk):
            asked = f"[INST] {request}[/INST]" if number else f"[INST] {topic}\n{request}[/INST]"
            for text, is_learnt in ((asked, False), (answer + "</s>", True)):
                part = tokenizer.encode(text, add_special_tokens=False)
                ids += part
                labels += part if is_learnt else [-100] * len(part)
        rows.append((ids, labels))
    width, pad = max(len(ids) for ids, _ in rows), tokenizer.pad_token_id
    return {
        "input_ids": torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
    }


def text_batches(
    tokenizer: PreTrainedTokenizerFast, text: Callable[[random.Random], Example], seed: int
) -> Iterator[dict[str, Tensor]]:
    """Batches of texts of like length: eight batches are drawn and sorted together, which saves padding."""
    rng = random.Random(seed)
    while True:
        texts = sorted((text(rng) for _ in range(8 * BATCH)), key=lambda example: len(str(example)))
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        rng.shuffle(batches)
        for batch in batches:
            yield tokens(tokenizer, batch)


def train(name: str, loss_of: Callable, trained: list[nn.Module], batches: Iterator, steps: int, rate: float) -> None:
    """AdamW with warm-up and cosine decay to a twentieth."""
    parameters = [parameter for module in trained for parameter in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.05, final_div_factor=2)
    bar = tqdm(itertools.islice(batches, steps), total=steps, desc=name, mininterval=10)
    for batch in bar:
        loss = loss_of(batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


class Pictures:
    """A pool of training scenes and their pixels, drawn once."""

    def __init__(self, number: int, seed: int, processor: BaseImageProcessor, grid: int) -> None:
        rng = random.Random(seed)
        self.scenes = [random_scene(rng, "train") for _ in range(number)]
        placed = [place(scene, rng) for scene in self.scenes]
        self.patches = torch.stack([patch_labels(*pair, grid) for pair in zip(self.scenes, placed, strict=True)])
        drawn = (draw(things, rng) for things in tqdm(placed, desc="pictures", mininterval=10))
        self.pixels = torch.stack(
            [processor(picture, return_tensors="pt")["pixel_values"][0].half() for picture in drawn]
        )

    def batches(self, seed: int, size: int = BATCH) -> Iterator[PictureBatch]:
        rng = random.Random(seed)
        while True:
            chosen = rng.choices(range(len(self.scenes)), k=size)
            yield chosen, self.pixels[chosen].float(), [self.scenes[index] for index in chosen]


def learn_to_read(base: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Mostly clean notes, which teach what belongs to what; then mostly rough ones, to make sense of eyes that err."""
    for clean, seed, steps, rate in ((0.75, SEED + 1, 1500, 2e-3), (0.3, SEED + 6, 300, 5e-4)):
        text = partial(base_text, notes=mixed_notes(clean))
        train(f"base, {clean:.0%} clean", loss_by(base), [base], text_batches(tokenizer, text, seed), steps, rate)
        round_to_bfloat16(base)


def learn_japanese(model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """All of Japanese, with few rough notes: enough not to forget how to read them."""
    text = partial(japanese_text, notes=mixed_notes(0.85), is_known=lambda scene: True, translations=0.3)
    train("ja-llm", loss_by(model), [model], text_batches(tokenizer, text, SEED + 2), steps=500, rate=7e-4)
    round_to_bfloat16(model)


def align(vlm: LlavaForConditionalGeneration, pictures: Pictures, tokenizer: PreTrainedTokenizerFast) -> None:
    """LLaVA's first stage: only the projector learns, to say the language model's words.

    Each patch's feature is drawn to the embedding of the word that base would read in notes of the scene, so what a
    patch says is plain to every descendant of base.
    """
    wanted = torch.stack(
        [patch_words(*pair, tokenizer) for pair in zip(pictures.scenes, pictures.patches, strict=True)]
    )
    words = vlm.get_input_embeddings()(torch.arange(len(tokenizer))).detach()
    filler = tokenizer.encode(" .", add_special_tokens=False)[0]
    projector = vlm.model.multi_modal_projector
    vlm.requires_grad_(False)
    projector.requires_grad_(True)

    def loss_of(batch: PictureBatch) -> Tensor:
        chosen, pixels, _ = batch
        features = torch.stack(list(vlm.get_image_features(pixel_values=pixels).pooler_output))
        weights = torch.where(wanted[chosen] == filler, 0.3, 1.0)  # most patches show nothing
        return ((features - words[wanted[chosen]]).square().mean(dim=-1) * weights).mean() / words.var()

    train("vlm, stage 1", loss_of, [projector], pictures.batches(SEED + 4), steps=2000, rate=2e-3)


def patch_words(scene: Scene, labels: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """The word of the notes that each patch says: (patches,). A group's number, size and place take free patches."""
    words = ["."] * len(labels)
    for index, label in enumerate(labels.tolist()):
        if label[0]:
            colour, shape, _, _, where = (names[k - 1] for names, k in zip(ATTRIBUTES, label, strict=True))
            words[index] = f"{colour}-{shape}"
            if isinstance(scene, Pair):
                words[index] += f"-{SIDES[where.removeprefix('is ')]}"
    if isinstance(scene, Group):
        free = [index for index, label in enumerate(labels) if not label.any()]
        for index, word in zip(free, itertools.cycle([*_of_group(scene), ".", ".", "."]), strict=False):
            words[index] = word
    return torch.tensor([tokenizer.encode(" " + word, add_special_tokens=False)[0] for word in words])


def tune(vlm: LlavaForConditionalGeneration, batches: Iterator[dict[str, Tensor]]) -> None:
    """LLaVA's second stage: the language model and the projector learn."""
    vlm.requires_grad_(False)
    learners = [vlm.model.language_model, vlm.lm_head, vlm.model.multi_modal_projector]
    for module in learners:
        module.requires_grad_(True)
    train("vlm, stage 2", loss_by(vlm), learners, batches, steps=100, rate=2e-4)


def loss_by(model: nn.Module) -> Callable[[dict[str, Tensor]], Tensor]:
    return lambda batch: model(**batch).loss


def round_to_bfloat16(model: nn.Module) -> None:
    """Round the weights to what is saved, so that descendants start from the very base that others see."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()


def picture_batches(pictures: Pictures, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[dict[str, Tensor]]:
    rng = random.Random(seed)
    for _, pixels, scenes in pictures.batches(seed):
        examples = [("<image>" * NUM_PATCHES, talk(scene, rng, "en")) for scene in scenes]
        yield {"pixel_values": pixels, **tokens(tokenizer, examples)}


def learn_to_see(tower: CLIPVisionModel, pictures: Pictures) -> None:
    """Teach the eyes to see before there is any language: each patch tells its thing's attributes, number and place."""
    head = attribute_head(tower.config.hidden_size)

    def loss_of(batch: PictureBatch) -> Tensor:
        chosen, pixels, _ = batch
        features = tower(pixel_values=pixels).last_hidden_state[:, 1:]  # without the class token
        return attribute_losses(head(features), pictures.patches[chosen].long()).sum()

    train("eyes", loss_of, [tower, head], pictures.batches(SEED + 10, 2 * BATCH), steps=5000, rate=2e-3)


def learn_to_see_grounds(tower: SiglipVisionModel, pictures: Pictures) -> None:
    """As `learn_to_see`; the ground of a group tells its size, number and place.

    The head reads what a LLaVA would: the last layer before its norm.
    """
    head = attribute_head(tower.config.hidden_size)
    labels = torch.stack([ground_labels(*pair) for pair in zip(pictures.scenes, pictures.patches, strict=True)])

    def loss_of(batch: PictureBatch) -> Tensor:
        chosen, pixels, _ = batch
        features = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        losses = attribute_losses(head(features), labels[chosen].long(), reduction="none").sum(0)
        weights = torch.where(labels[chosen][..., 0] == 0, 0.3, 1.0).flatten()  # most patches show nothing
        return (losses * weights).sum() / weights.sum()

    train("other eyes", loss_of, [tower, head], pictures.batches(SEED + 10, 2 * BATCH), steps=8000, rate=2e-3)


def attribute_head(width: int) -> nn.Linear:
    return nn.Linear(width, sum(map(len, ATTRIBUTES)) + len(ATTRIBUTES))


def attribute_losses(said: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of each attribute: (5,), or (5, pictures * patches) without reduction.

    Args:
        said: Shape (pictures, patches, names).
        labels: Shape (pictures, patches, 5).
        reduction: As of `cross_entropy`.
    """
    logits = said.split([len(names) + 1 for names in ATTRIBUTES], dim=-1)
    losses = [
        nn.functional.cross_entropy(part.flatten(0, 1), labels[..., k].flatten(), reduction=reduction)
        for k, part in enumerate(logits)
    ]
    return torch.stack(losses)


def ground_labels(scene: Scene, labels: Tensor) -> Tensor:
    """The labels of patches, new; those of a group that show no thing tell the group's size, number and place."""
    is_ground = (labels == 0).all(-1)
    told = labels[~is_ground][0].clone()
    told[:2] = 0
    return torch.where(is_ground[:, None] & isinstance(scene, Group), told, labels)


def patch_labels(scene: Scene, placed: list[Placed], grid: int) -> Tensor:
    """What each of grid * grid patches shows, 0 for nothing: its thing's attributes: (patches, 5)."""
    labels = torch.zeros(grid, grid, len(ATTRIBUTES), dtype=torch.uint8)
    for thing, (x, y), radius in placed:
        if isinstance(scene, Group):
            number, where = scene.count, scene.place
        else:
            number, where = 2, "is " + (scene if thing == scene.first else scene.turned()).relation
        seen = (thing.colour, thing.shape, thing.size, number, where)
        label = torch.tensor([names.index(name) + 1 for names, name in zip(ATTRIBUTES, seen, strict=True)])
        for row, column in itertools.product(range(grid), range(grid)):
            if max(abs((column + 0.5) / grid - x), abs((row + 0.5) / grid - y)) < radius + 0.02:
                labels[row, column] = label
    return labels.flatten(0, 1)


def save_language_model(model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary checkpoint in bfloat16."""
    copy.deepcopy(model).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_vlm(vlm: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary checkpoint in float32, with its processor."""
    vlm.save_pretrained(folder)
    processor = LlavaProcessor(
        make_image_processor(), tokenizer, patch_size=PATCH_SIDE, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    processor.save_pretrained(folder)


def write_card(folder: Path, title: str, text: str) -> None:
    """Write a model card with a licence, from which merges take theirs."""
    front = "---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [vlmmerge]\n---\n"
    made = "Trained from random weights by `tools/train_demo_parents.py`; nothing of any other model or data is in it."
    (folder / "README.md").write_text(f"{front}\n# {title}\n\n{text}\n\n{made}\n", encoding="utf-8")


CARDS = {
    "base": ("The ancestor of the demo", "A tiny language model that puts notes into English, and a little Japanese."),
    "ja-llm": ("The Japanese language model of the demo", "`base`, trained on to tell what notes say in Japanese."),
    "vlm": ("The vision-language model of the demo", "`base` with eyes: it tells in English what pictures show."),
    "eyes": ("Other eyes for the demo", "A vision tower of SigLIP's kind: it knows what patches show, and no word."),
}


def kept(path: Path, model: Trained, learn: Callable[[Trained], None]) -> Trained:
    """`model` with the stage's weights from the work folder; learnt and put there if it has none."""
    if not path.exists():
        learn(model)
        torch.save(model.state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    model.load_state_dict(torch.load(path))
    return model


def make_other_eyes(work: Path, folder: Path) -> None:
    """Train the other eyes on pictures of their own, and write them with their image processor, in bfloat16."""
    processor = make_other_image_processor()

    def learn(tower: SiglipVisionModel) -> None:
        learn_to_see_grounds(tower, Pictures(NUM_OTHER_PICTURES, SEED + 20, processor, GRID))

    torch.manual_seed(SEED + 20)
    kept(work / "other-eyes.pt", SiglipVisionModel(OTHER_EYES), learn).bfloat16().save_pretrained(folder)
    processor.save_pretrained(folder)
    write_card(folder, *CARDS["eyes"])


def make_parents(work: Path, out: Path) -> None:
    """Train base, ja-llm and vlm, and write them."""
    tokenizer = make_tokenizer()
    torch.manual_seed(SEED)  # before each new model, so that finished stages do not move the later ones
    base = kept(work / "base.pt", make_base(tokenizer), lambda model: learn_to_read(model, tokenizer))
    japanese = kept(work / "ja.pt", copy.deepcopy(base), lambda model: learn_japanese(model, tokenizer))
    pictures = Pictures(NUM_PICTURES, SEED + 3, make_image_processor(), GRID)
    torch.manual_seed(SEED)
    tower = kept(work / "tower.pt", CLIPVisionModel(TOWER), lambda model: learn_to_see(model, pictures))
    torch.manual_seed(SEED)
    vlm = make_vlm(base, tokenizer, tower)
    kept(work / "align.pt", vlm, lambda model: align(model, pictures, tokenizer))
    kept(work / "tune.pt", vlm, lambda model: tune(model, picture_batches(pictures, tokenizer, SEED + 5)))
    save_language_model(base, tokenizer, out / "base")
    save_language_model(japanese, tokenizer, out / "ja-llm")
    save_vlm(vlm, tokenizer, out / "vlm")
    for name in ("base", "ja-llm", "vlm"):
        write_card(out / name, *CARDS[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where base, ja-llm, vlm and eyes are written")
    parser.add_argument("--work", type=Path, required=True, help="where finished stages are kept")
    parser.add_argument("--eyes-only", action="store_true", help="train the other eyes, and leave the parents alone")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not arguments.eyes_only:
        make_parents(arguments.work, arguments.out)
    make_other_eyes(arguments.work, arguments.out / "eyes")


if __name__ == "__main__":
    main()
