"""Trains the demo model and writes it as a Hugging Face Llama directory."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from chat import ASSISTANT, BEGIN, CHAT_TEMPLATE, END, SPECIAL_TOKENS, Message, render
from dataset import HERE, Dataset
from model import Llama, LlamaConfig
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUT = HERE.parents[1] / "python" / "dynamo_llm" / "models" / "demo"
IGNORE = -100
# Digits one by one, so that no number is a word of its own.
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def make_tokenizer(data: Dataset, size: int) -> Tokenizer:
    """Make a byte-level BPE vocabulary of ``size`` tokens from the texts of ``data``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(data.texts(), trainer)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that must exist."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return found


def encode(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[int]]:
    """Return the tokens of a conversation and, at each token, the next one if it is to be learnt.

    Only the answers are learnt, each with the token that ends it.
    """
    ids = tokenizer.encode(render(messages, False), add_special_tokens=False).ids
    assistant, end = token_id(tokenizer, ASSISTANT), token_id(tokenizer, END)
    targets = [IGNORE] * len(ids)
    inside = False
    for index, token in enumerate(ids):
        if token == assistant:
            inside = True
        elif token == end:
            inside = False
        if inside:
            targets[index] = ids[index + 1]
    return ids, targets


def plain_text(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """Return ``text`` as a document to complete, learnt from its third token on."""
    ids = tokenizer.encode(text + END, add_special_tokens=False).ids
    return ids, [IGNORE, IGNORE, *ids[3:], IGNORE]


def collate(rows: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Pad rows of tokens and targets to one length."""
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), IGNORE)
    for index, (row, goal) in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        targets[index, : len(goal)] = torch.tensor(goal)
    return ids, targets


def batches(
    data: Dataset, tokenizer: Tokenizer, rng: random.Random, tokens: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of about ``tokens`` tokens, each of rows of like length."""
    conversations = data.conversations(rng)
    pad = token_id(tokenizer, END)
    while True:
        rows = []
        for _ in range(1200):
            if rng.random() < 0.06:
                rows.append(plain_text(tokenizer, rng.choice(data.terms).answer))
            else:
                rows.append(encode(tokenizer, next(conversations)))
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, pad)


class Muon:
    """Momentum whose update is made orthogonal, for the matrices inside the layers."""

    def __init__(self, parameters: list[nn.Parameter], decay: float = 0.01) -> None:
        shapes: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault(tuple(parameter.shape), []).append(parameter)
        self.groups = list(shapes.values())
        self.momentum = [torch.zeros(len(group), *group[0].shape) for group in self.groups]
        self.decay = decay

    @torch.no_grad()
    def step(self, lr: float, beta: float = 0.95) -> None:
        """Update the parameters from their gradients."""
        for group, momentum in zip(self.groups, self.momentum, strict=True):
            gradient = torch.stack([p.grad for p in group if p.grad is not None])
            momentum.lerp_(gradient, 1 - beta)
            update = orthogonal(gradient.lerp(momentum, beta))
            scale = math.sqrt(max(1.0, update.shape[-2] / update.shape[-1]))
            for parameter, part in zip(group, update, strict=True):
                parameter.mul_(1 - lr * self.decay).add_(part, alpha=-lr * scale)
                parameter.grad = None


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of ``matrices`` near one by Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        y = x @ x.mT
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.mT if tall else x


def train(
    model: Llama,
    data: Dataset,
    tokenizer: Tokenizer,
    seed: int,
    steps: int,
    tokens: int,
    peak: float = 1.0,
) -> None:
    """Train ``model`` for ``steps`` steps; ``peak`` scales the learning rates."""
    matrices = [p for name, p in model.named_parameters() if "proj" in name]
    others = [p for name, p in model.named_parameters() if "proj" not in name]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0)
    stream = batches(data, tokenizer, random.Random(seed), tokens)
    started = time.monotonic()
    model.train()
    for step in range(steps):
        ids, targets = next(stream)
        rows, columns = (targets != IGNORE).nonzero(as_tuple=True)
        logits = model.logits(model.hidden(ids)[rows, columns])
        loss = F.cross_entropy(logits, targets[rows, columns])
        loss.backward()
        share = step / steps
        rate = peak * min(1.0, (step + 1) / 30) * min(1.0, (1 - share) / 0.6)
        muon.step(0.02 * rate)
        for group in adam.param_groups:
            group["lr"] = 4e-3 * rate
        adam.step()
        adam.zero_grad(set_to_none=True)
        if step % 25 == 0 or step == steps - 1:
            seconds = time.monotonic() - started
            print(f"step {step:5d}  loss {loss.item():.4f}  {seconds:6.1f} s", flush=True)


def save(model: Llama, tokenizer: Tokenizer, folder: Path, dtype: torch.dtype) -> None:
    """Write the model, its tokenizer and their settings, the weights rounded to ``dtype``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to(dtype).contiguous() for name, p in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    begin, end = token_id(tokenizer, BEGIN), token_id(tokenizer, END)
    name = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", model.config.to_hf(begin, end, name))
    write_json(
        folder / "generation_config.json",
        {
            "do_sample": False,
            "bos_token_id": begin,
            "eos_token_id": end,
            "pad_token_id": end,
            "max_new_tokens": 256,
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model.config.max_position_embeddings,
            "clean_up_tokenization_spaces": False,
            "add_bos_token": False,
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": END,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write ``content`` as readable JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens in a batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=LlamaConfig.vocab_size)
    parser.add_argument("--init", type=Path, help="model to go on from, at a lower learning rate")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = Dataset.load()
    if args.init:
        tokenizer = Tokenizer.from_file(str(args.init / "tokenizer.json"))
    else:
        tokenizer = make_tokenizer(data, args.vocab)
    model = Llama(LlamaConfig(vocab_size=tokenizer.get_vocab_size()))
    if args.init:
        weights = load_file(args.init / "model.safetensors")
        model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    count = sum(p.numel() for p in model.parameters())
    print(f"{len(data.terms)} terms, {tokenizer.get_vocab_size()} tokens, {count:,} parameters")
    peak = 0.7 if args.init else 1.0
    train(model, data, tokenizer, args.seed, args.steps, args.tokens, peak)
    save(model, tokenizer, args.output, torch.bfloat16)
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"wrote {args.output} ({size:,} bytes)")


if __name__ == "__main__":
    main()
