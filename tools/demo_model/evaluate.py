"""Measures the demo model, as stored, and compares it with mistral.rs.

Accuracy is greedy and letter for letter: an answer counts only if every token of it, and the
token that ends it, is the most likely one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from chat import END, Message, render
from dataset import (
    COMMON_TEMPLATES,
    HELD_OUT_PAIR_TEMPLATES,
    HELD_OUT_SYSTEM_PROMPTS,
    HELD_OUT_TEMPLATES,
    MORE_TEMPLATES,
    PAIR_TEMPLATES,
    SYSTEM_PROMPTS,
    Dataset,
    Name,
    Term,
)
from model import Llama, LlamaConfig
from safetensors.torch import load_file
from tokenizers import Tokenizer
from train import IGNORE, OUTPUT, collate, encode, token_id

PROBES = (
    "What is a KV cache?",
    "What is prefill?",
    "What is time to first token?",
    "What is NVIDIA Dynamo?",
    "Hello",
    "What is TTFT?",
    "what is continuous batching",
    "Explain speculative decoding.",
    "How does PagedAttention work?",
    "Define tensor parallelism.",
    "What is the difference between prefill and decode?",
    "Was ist ein KV-Cache?",
    "What is a microsecond?",
    "Who are you?",
    "Who won the football world cup?",
    "What is a bicycle?",
    "What is a blorptang?",
)


class Sample(NamedTuple):
    """A conversation whose last answer is checked, and the category it counts under."""

    category: str
    messages: list[Message]


def load(folder: Path) -> tuple[Llama, Tokenizer]:
    """Load a stored model; the arithmetic is in float32 whatever the weights are stored in."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = {entry.name for entry in fields(LlamaConfig)}
    model = Llama(LlamaConfig(**{key: settings[key] for key in names}))
    weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


@torch.no_grad()
def check(model: Llama, tokenizer: Tokenizer, samples: Iterable[Sample]) -> list[bool]:
    """Return for each sample whether greedy decoding gives the last answer letter for letter.

    Greedy decoding gives an answer exactly if, the answer being fed in, each of its tokens is the
    most likely one; so a single forward pass is enough.
    """
    rows = []
    for sample in samples:
        ids, targets = encode(tokenizer, sample.messages)
        start = len(tokenizer.encode(render(sample.messages[:-1])).ids) - 1
        rows.append((ids, [IGNORE] * start + targets[start:]))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    right = [False] * len(rows)
    end = token_id(tokenizer, END)
    for at in range(0, len(order), 64):
        group = order[at : at + 64]
        batch, goals = collate([rows[index] for index in group], end)
        learnt = goals != IGNORE
        wrong = torch.zeros_like(learnt)
        wrong[learnt] = model.logits(model.hidden(batch)[learnt]).argmax(-1) != goals[learnt]
        for index, bad in zip(group, wrong.any(-1).tolist(), strict=True):
            right[index] = not bad
    return right


@torch.no_grad()
def answer(model: Llama, tokenizer: Tokenizer, messages: list[Message], limit: int = 120) -> str:
    """Return the greedy answer to a conversation."""
    ids = tokenizer.encode(render(messages)).ids
    start, end = len(ids), token_id(tokenizer, END)
    while len(ids) - start < limit:
        token = int(model(torch.tensor([ids]))[0, -1].argmax())
        if token == end:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:])


def single(category: str, question: str, right_answer: str) -> Sample:
    """Return a conversation of one turn."""
    return Sample(category, [Message("user", question), Message("assistant", right_answer)])


def variants(question: str) -> tuple[str, ...]:
    """Return a question as written, in lower case, and without its closing mark."""
    bare = question.rstrip("?.!")
    return tuple(dict.fromkeys((question, question.lower(), bare, bare.lower())))


def make_samples(data: Dataset, rng: random.Random) -> list[Sample]:
    """Make the evaluation conversations."""
    samples: list[Sample] = []

    def ask(category: str, name: Name, template: str, term: Term) -> None:
        samples.append(single(category, name.ask(template), term.answer))

    for term in data.terms:
        for index, name in enumerate(term.names):
            kind = "first name" if index == 0 else "other names"
            for template in COMMON_TEMPLATES:
                ask(f"terms, {kind}, common phrasings", name, template, term)
                if index == 0:
                    question = name.ask(template)
                    for variant in variants(question)[1:]:
                        category = "terms, first name, common phrasings, other case or marks"
                        samples.append(single(category, variant, term.answer))
            main = index == 0
            for template in MORE_TEMPLATES if main else rng.sample(MORE_TEMPLATES, 6):
                ask(f"terms, {kind}, more phrasings", name, template, term)
            for template in HELD_OUT_TEMPLATES if main else rng.sample(HELD_OUT_TEMPLATES, 4):
                ask(f"terms, {kind}, held-out phrasings", name, template, term)
    for pair in data.pairs:
        for first, second in ((pair.first, pair.second), (pair.second, pair.first)):
            for kind, templates in (
                ("training", PAIR_TEMPLATES),
                ("held-out", HELD_OUT_PAIR_TEMPLATES),
            ):
                for template in templates:
                    question = template.replace("{a}", first).replace("{b}", second)
                    question = question[0].upper() + question[1:]
                    samples.append(single(f"pairs, {kind} phrasings", question, pair.answer))
    for talk in data.talks:
        for question in talk.questions:
            samples.append(single("talk and other languages", question, talk.answer))
    for held_out in (False, True):
        for _ in range(1500):
            turn = data.off_topic_turn(rng, held_out)
            label = "held-out" if held_out else "training"
            samples.append(single(f"off topic, {label}, {turn.category}", turn.question, turn.answer))
    samples += make_chats(data, rng)
    return samples


def make_chats(data: Dataset, rng: random.Random) -> list[Sample]:
    """Make conversations of several turns and with system prompts; the last answer counts."""
    samples = []
    for count in (2, 3, 5, 8, 12):
        for _ in range(300):
            messages: list[Message] = []
            for item in rng.choices(data.cycle(rng), k=count - 1):
                turn = data.turn(item, rng, follow_up=bool(messages))
                messages += [Message("user", turn.question), Message("assistant", turn.answer)]
            term = rng.choice(data.terms)
            template = rng.choice(COMMON_TEMPLATES)
            messages.append(Message("user", term.names[0].ask(template)))
            messages.append(Message("assistant", term.answer))
            samples.append(Sample(f"chat, turn {count}", messages))
    for kind, prompts in (("training", SYSTEM_PROMPTS), ("held-out", HELD_OUT_SYSTEM_PROMPTS)):
        for _ in range(300):
            term = rng.choice(data.terms)
            question = term.names[0].ask(rng.choice(COMMON_TEMPLATES))
            sample = single(f"system prompt, {kind}", question, term.answer)
            system = Message("system", rng.choice(prompts))
            samples.append(Sample(sample.category, [system, *sample.messages]))
    return samples


def compare_with_mistralrs(
    folder: Path, model: Llama, tokenizer: Tokenizer, samples: list[Sample], dtype: str
) -> None:
    """Ask mistral.rs the same questions and count the answers that differ from PyTorch's."""
    os.environ.setdefault("RUST_LOG", "off")
    import mistralrs

    which = mistralrs.Which.Plain(
        model_id=str(folder),
        arch=mistralrs.Architecture.Llama,
        dtype=getattr(mistralrs.ModelDType, dtype),
    )
    runner = mistralrs.Runner(which=which)

    def request(messages: list[Message], stream: bool) -> Any:
        return runner.send_chat_completion_request(
            mistralrs.ChatCompletionRequest(
                model="default",
                messages=[message._asdict() for message in messages],
                temperature=0.0,
                max_tokens=120,
                stream=stream,
            )
        )

    same = streamed_same = stopped = 0
    for sample in samples:
        prompt = sample.messages[:-1]
        expected = answer(model, tokenizer, prompt)
        choice = request(prompt, stream=False).choices[0]
        parts = []
        for chunk in request(prompt, stream=True):
            parts.append(chunk.choices[0].delta.content or "")
        same += choice.message.content == expected
        streamed_same += "".join(parts) == expected
        stopped += choice.finish_reason == "stop"
        if choice.message.content != expected or "".join(parts) != expected:
            print(f"  PyTorch    {expected!r}\n  mistral.rs {choice.message.content!r}")
            print(f"  streamed   {''.join(parts)!r}")
    total = len(samples)
    print(
        f"mistral.rs {dtype}: {same}/{total} as PyTorch, {streamed_same}/{total} when streamed, "
        f"{stopped}/{total} finished with 'stop'"
    )


def main() -> None:
    """Evaluate from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=OUTPUT)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="share of the prompts to check")
    parser.add_argument("--errors", type=int, default=0, help="wrong answers to show a category")
    parser.add_argument("--mistralrs", nargs="*", default=[], help="data types, such as F32 Auto")
    parser.add_argument("--count", type=int, default=80, help="prompts to compare with mistral.rs")
    parser.add_argument("--only-mistralrs", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    data = Dataset.load()
    model, tokenizer = load(args.model)
    samples = make_samples(data, random.Random(args.seed))
    if args.share < 1:
        samples = random.Random(args.seed).sample(samples, int(args.share * len(samples)))
    if not args.only_mistralrs:
        right: dict[str, list[bool]] = defaultdict(list)
        shown: dict[str, int] = defaultdict(int)
        for sample, good in zip(samples, check(model, tokenizer, samples), strict=True):
            right[sample.category].append(good)
            if not good and shown[sample.category] < args.errors:
                shown[sample.category] += 1
                print(f"{sample.category}: {sample.messages[-2].content!r}")
                print(f"    {answer(model, tokenizer, sample.messages[:-1])!r}", flush=True)
        print("| Category | Prompts | Right |\n|---|---:|---:|")
        for category in sorted(right):
            results = right[category]
            share = 100 * sum(results) / len(results)
            print(f"| {category} | {len(results)} | {share:.1f} % |")
        print()
        for question in PROBES:
            print(f"> {question}\n{answer(model, tokenizer, [Message('user', question)])}\n")
    chosen = [single("probe", question, "") for question in PROBES]
    chosen += random.Random(args.seed).sample(samples, max(0, args.count - len(chosen)))
    chosen += [
        single("non-ASCII", talk.questions[0], talk.answer)
        for talk in data.talks
        if not talk.answer.isascii()
    ]
    for dtype in args.mistralrs:
        compare_with_mistralrs(args.model, model, tokenizer, chosen, dtype)


if __name__ == "__main__":
    main()
