"""Train the three demo parents from a seed: `python tools/train_demo_parents.py --out recipes/demo-parents --work /tmp/demo`.

    base     reads texts about scenes in English, and in Japanese for some colours and shapes only
    ja-llm   base, trained further on Japanese texts and translations into Japanese: no picture, ever
    vlm      base with eyes, trained in LLaVA's two stages on pictures with English captions and questions only

Each stage is kept in the work folder when it is done, and a second call goes on from there.
"""

import argparse
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

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
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

SEED = 0
ENGLISH_REQUEST = "Describe the picture."
JAPANESE_REQUEST = "画像を説明してください。"
# The Japanese words that base has met: the rest of Japanese is ja-llm's alone.
KNOWN_COLOURS = ("red", "blue", "green")
KNOWN_SHAPES = ("circle", "square")
IMAGE_SIDE, PATCH_SIDE = 60, 10
NUM_PATCHES = (IMAGE_SIDE // PATCH_SIDE) ** 2
BATCH = 64
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

Example = tuple[str, str]  # prompt, answer


# Texts --------------------------------------------------------------------------------------------------------------


def facts(scene: Scene, rng: random.Random, language: str) -> str:
    """The scene's facts as words, in any order and with fillers: what the language model learns to read."""
    words = _japanese_facts(scene, rng) if language == "ja" else _english_facts(scene, rng)
    rng.shuffle(words)
    return "".join(" " + word for fact in words for word in _with_fillers(fact, rng))


def _with_fillers(fact: list[str], rng: random.Random) -> list[str]:
    spread = rng.choice((0.0, 0.3, 0.6))
    words = []
    for word in fact:
        words.append(word)
        while rng.random() < spread:
            words.append(".")
    return [*words, ";"]


def _english_facts(scene: Scene, rng: random.Random) -> list[list[str]]:
    def told(thing) -> list[str]:
        words = [thing.size, thing.colour, thing.shape]
        rng.shuffle(words)
        return words

    if isinstance(scene, Group):
        if rng.random() < 0.5:
            return [[NUMBERS[scene.count], *told(scene.thing), scene.place]]
        return [[*told(scene.thing), scene.place] for _ in range(scene.count)]
    if rng.random() < 0.5:
        return [told(scene.first), told(scene.second), _relation_fact(scene, rng)]
    first, second = {"above": ("top", "bottom"), "left": ("left", "right")}.get(scene.relation, (None, None))
    if first is None:
        return _english_facts(scene.turned(), rng)
    return [[*told(scene.first), first], [*told(scene.second), second]]


def _relation_fact(scene: Pair, rng: random.Random) -> list[str]:
    pair = scene if rng.random() < 0.5 else scene.turned()
    return [pair.first.colour, pair.first.shape, pair.relation, pair.second.colour, pair.second.shape]


def _japanese_facts(scene: Scene, rng: random.Random) -> list[list[str]]:
    def told(thing) -> list[str]:
        words = [SIZES[thing.size], COLOURS[thing.colour][0], SHAPES[thing.shape]]
        rng.shuffle(words)
        return words

    if isinstance(scene, Group):
        place = PLACES[scene.place][1]
        if rng.random() < 0.5:
            return [[f"{scene.count}つ", *told(scene.thing), place]]
        return [[*told(scene.thing), place] for _ in range(scene.count)]
    pair = scene if rng.random() < 0.5 else scene.turned()
    names = [pair.first.japanese_name(), "が", pair.second.japanese_name(), "の", RELATIONS[pair.relation][1]]
    return [told(scene.first), told(scene.second), names]


def english_text(rng: random.Random) -> Example:
    """English facts, and an English caption or an answer."""
    scene = random_scene(rng, "train")
    request, answer = _english_request(scene, rng)
    return f"[INST]{facts(scene, rng, 'en')}\n{request}[/INST]", answer


def _english_request(scene: Scene, rng: random.Random) -> Example:
    if rng.random() < 0.75:
        return ENGLISH_REQUEST, rng.choice(english_captions(scene))
    return rng.choice(list(questions(scene, rng).values()))[0]


def _japanese_request(scene: Scene, rng: random.Random) -> Example:
    if rng.random() < 0.75:
        return JAPANESE_REQUEST, rng.choice(japanese_captions(scene))
    return rng.choice(list(questions(scene, rng).values()))[1]


def japanese_text(rng: random.Random, is_known: Callable[[Scene], bool], english_facts: float) -> Example:
    """Facts in Japanese (or, with the given probability, in English) and what Japanese says of them; or a translation."""
    scene = random_scene(rng, "train")
    while not is_known(scene):
        scene = random_scene(rng, "train")
    if rng.random() < 0.3:
        return translation(scene, rng)
    language = "en" if rng.random() < english_facts else "ja"
    request, answer = _japanese_request(scene, rng)
    return f"[INST]{facts(scene, rng, language)}\n{request}[/INST]", answer


def translation(scene: Scene, rng: random.Random) -> Example:
    """An English caption into Japanese."""
    number = rng.randrange(2)
    japanese = japanese_captions(scene)
    return f"[INST] {english_captions(scene)[number]}\n日本語に訳してください。[/INST]", rng.choice(japanese)


def is_known_to_base(scene: Scene) -> bool:
    return all(thing.colour in KNOWN_COLOURS and thing.shape in KNOWN_SHAPES for thing in scene.things)


def base_text(rng: random.Random) -> Example:
    if rng.random() < 0.75:
        return english_text(rng)
    return japanese_text(rng, is_known_to_base, english_facts=0.5)


def japanese_model_text(rng: random.Random, english_facts: float = 0.2) -> Example:
    return japanese_text(rng, lambda scene: True, english_facts)


# Models -------------------------------------------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that never joins two scripts: 大|きな|赤|い|丸."""
    rng = random.Random(SEED)
    texts = ["".join(english_text(rng)) for _ in range(6000)]
    texts += ["".join(japanese_text(rng, lambda scene: True, 0.0)) for _ in range(6000)]
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r" ?[A-Za-z]+| ?[一-龥々]+| ?[ぁ-ゖ]+| ?[ァ-ヺー]+| ?[0-9]| ?[^\sA-Za-z0-9ぁ-ヺー一-龥々]|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "[INST]", "[/INST]"]
    trainer = trainers.BpeTrainer(
        vocab_size=640,
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
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=None, rms_norm_eps=1e-5, initializer_range=0.04,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    return MistralForCausalLM(config)


def make_vlm(
    base: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, tower: CLIPVisionModel
) -> LlavaForConditionalGeneration:
    config = LlavaConfig(
        vision_config=tower.config, text_config=base.config, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1, image_seq_length=NUM_PATCHES, tie_word_embeddings=False,
    )  # fmt: skip
    config.text_config.dtype = torch.float32
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


# Training -----------------------------------------------------------------------------------------------------------


def tokens(tokenizer: PreTrainedTokenizerFast, examples: list[Example]) -> dict[str, Tensor]:
    """A right-padded batch; only the answers are learnt."""
    rows = []
    for prompt, answer in examples:
        asked = tokenizer.encode("<s>" + prompt, add_special_tokens=False)
        said = tokenizer.encode(answer, add_special_tokens=False) + [tokenizer.eos_token_id]
        rows.append((asked + said, [-100] * len(asked) + said))
    width = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    return {
        "input_ids": torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
    }


def text_batches(tokenizer: PreTrainedTokenizerFast, text: Callable, seed: int) -> Iterator[dict[str, Tensor]]:
    rng = random.Random(seed)
    while True:
        yield tokens(tokenizer, [text(rng) for _ in range(BATCH)])


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


def train_language_model(
    name: str, model: MistralForCausalLM, tokenizer, text: Callable, steps: int, rate: float, seed: int
):
    model.train()
    train(name, lambda batch: model(**batch).loss, [model], text_batches(tokenizer, text, seed), steps, rate)
    return model.to(torch.bfloat16)


class Pictures:
    """A pool of training scenes and their pixels, drawn once."""

    def __init__(self, number: int, seed: int) -> None:
        rng = random.Random(seed)
        self.scenes = [random_scene(rng, "train") for _ in range(number)]
        processor = make_image_processor()
        placed = [place(scene, rng) for scene in self.scenes]
        self.patches = torch.stack([patch_labels(things) for things in placed])
        drawn = (draw(things, rng) for things in tqdm(placed, desc="pictures", mininterval=10))
        self.pixels = torch.stack(
            [processor(picture, return_tensors="pt")["pixel_values"][0].half() for picture in drawn]
        )

    def batches(self, seed: int) -> Iterator[tuple[list[int], Tensor, list[Scene]]]:
        rng = random.Random(seed)
        while True:
            chosen = rng.choices(range(len(self.scenes)), k=BATCH)
            yield chosen, self.pixels[chosen].float(), [self.scenes[index] for index in chosen]


def picture_batches(pictures: Pictures, tokenizer, seed: int) -> Iterator[dict[str, Tensor]]:
    rng = random.Random(seed)
    for _, pixels, scenes in pictures.batches(seed):
        examples = []
        for scene in scenes:
            request, answer = _english_request(scene, rng)
            examples.append((f"[INST] {'<image>' * NUM_PATCHES}\n{request}[/INST]", answer))
        yield {"pixel_values": pixels, **tokens(tokenizer, examples)}


def train_tower(tower: CLIPVisionModel, pictures: Pictures, steps: int) -> None:
    """Teach the eyes to see before there is any language: colour, shape and size of what each patch shows, if anything."""
    sizes = (len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1)
    head = nn.Linear(tower.config.hidden_size, sum(sizes))

    def loss_of(batch: tuple[list[int], Tensor, list[Scene]]) -> Tensor:
        chosen, pixels, _ = batch
        logits = head(tower(pixel_values=pixels).last_hidden_state[:, 1:]).split(sizes, dim=-1)
        labels = pictures.patches[chosen]
        losses = [
            nn.functional.cross_entropy(part.flatten(0, 1), labels[..., k].flatten()) for k, part in enumerate(logits)
        ]
        return torch.stack(losses).sum()

    train("eyes", loss_of, [tower, head], pictures.batches(SEED + 10), steps, 2e-3)


def patch_labels(placed: list[Placed]) -> Tensor:
    """For each patch the colour, shape and size of the thing at its centre, 0 for none: (patches, 3)."""
    grid = IMAGE_SIDE // PATCH_SIDE
    labels = torch.zeros(grid, grid, 3, dtype=torch.long)
    for thing, (x, y), radius in placed:
        names = (list(COLOURS).index(thing.colour), list(SHAPES).index(thing.shape), list(SIZES).index(thing.size))
        for row, column in itertools.product(range(grid), range(grid)):
            if max(abs((column + 0.5) / grid - x), abs((row + 0.5) / grid - y)) < radius + 0.02:
                labels[row, column] = torch.tensor(names) + 1
    return labels.flatten(0, 1)


def save_language_model(model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_vlm(vlm: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    vlm.save_pretrained(folder)
    processor = LlavaProcessor(
        make_image_processor(), tokenizer, patch_size=PATCH_SIDE, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    processor.save_pretrained(folder)


def kept(path: Path, make: Callable[[], nn.Module], blank: nn.Module) -> nn.Module:
    """The stage's weights from the work folder; made and put there if it has none."""
    if not path.exists():
        made = make()
        torch.save(made.state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    blank.load_state_dict(torch.load(path))
    return blank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where base, ja-llm and vlm are written")
    parser.add_argument("--work", type=Path, required=True, help="where finished stages are kept")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    print(
        len(tokenizer),
        tokenizer.tokenize(
            "[INST] big red circle ;\n画像を説明してください。 [/INST]大きな赤い丸が小さなオレンジ色のハートの上にあります。真ん中に2つ"
        ),
    )
    work = arguments.work

    def learn_base() -> nn.Module:
        model = make_base(tokenizer)
        return train_language_model("base", model, tokenizer, base_text, 1200, 3e-3, SEED + 1)

    base = kept(work / "base.pt", learn_base, make_base(tokenizer).bfloat16()).float()

    def learn_japanese() -> nn.Module:
        model = make_base(tokenizer)
        model.load_state_dict(base.state_dict())
        return train_language_model("ja-llm", model, tokenizer, japanese_model_text, 600, 1e-3, SEED + 2)

    japanese = kept(work / "ja-llm.pt", learn_japanese, make_base(tokenizer).bfloat16())
    pictures = Pictures(12000, SEED + 3)
    tower_config = CLIPVisionConfig(
        hidden_size=96, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE, initializer_range=0.05, projection_dim=64,
    )  # fmt: skip

    def learn_to_see() -> nn.Module:
        tower = CLIPVisionModel(tower_config)
        train_tower(tower, pictures, 1000)
        return tower

    tower = kept(work / "tower.pt", learn_to_see, CLIPVisionModel(tower_config))

    def align() -> nn.Module:
        vlm = make_vlm(base, tokenizer, tower)
        eyes = [vlm.model.vision_tower, vlm.model.multi_modal_projector]
        vlm.requires_grad_(False)
        for module in eyes:
            module.requires_grad_(True)
        train(
            "vlm stage 1",
            lambda batch: vlm(**batch).loss,
            eyes,
            picture_batches(pictures, tokenizer, SEED + 4),
            1000,
            2e-3,
        )
        return vlm

    vlm = kept(work / "vlm-1.pt", align, make_vlm(base, tokenizer, tower))

    def tune() -> nn.Module:
        vlm.requires_grad_(True)
        train(
            "vlm stage 2",
            lambda batch: vlm(**batch).loss,
            [vlm],
            picture_batches(pictures, tokenizer, SEED + 5),
            400,
            5e-4,
        )
        return vlm

    vlm = kept(work / "vlm-2.pt", tune, make_vlm(base, tokenizer, tower))
    save_language_model(base.bfloat16(), tokenizer, arguments.out / "base")
    save_language_model(japanese, tokenizer, arguments.out / "ja-llm")
    save_vlm(vlm, tokenizer, arguments.out / "vlm")


if __name__ == "__main__":
    main()
