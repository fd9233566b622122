"""Makes the training and evaluation conversations from the text files beside this script."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chat import Message

HERE = Path(__file__).resolve().parent

REFUSAL = "I am a tiny demo model and only know some terms of LLM serving. Try: What is a KV cache?"

# {x}: the name with its article, {n}: the name alone. A template listed first is drawn more often.
COMMON_TEMPLATES = (
    "What is {x}?",
    "What's {x}?",
    "Explain {x}.",
    "Define {n}.",
    "What does {n} mean?",
    "Tell me about {x}.",
    "{n}?",
    "How does {x} work?",
)
MORE_TEMPLATES = (
    "{n}",
    "Describe {x}.",
    "What is {n}?",
    "what is the {n}?",
    "Can you explain {x}?",
    "Could you please explain {x}?",
    "Please explain {x}.",
    "Please tell me what {x} is.",
    "Can you tell me about {x}?",
    "What do you mean by {n}?",
    "Give me a definition of {n}.",
    "What is the definition of {n}?",
    "What is meant by {n}?",
    "What is the meaning of {n}?",
    "What is {x} in LLM serving?",
    "What is {x} in LLM inference?",
    "Explain {x} to me.",
    "Explain {x} in one sentence.",
    "Explain {x} in simple terms.",
    "Do you know what {x} is?",
    "I want to know about {x}.",
    "I don't know what {x} is.",
    "What is {x} used for?",
    "What is {x} good for?",
    "Help me understand {x}.",
    "Hi, what is {x}?",
    "Hello, can you explain {x}?",
    "Quick question: what is {x}?",
    "Teach me about {x}.",
    "I have a question about {x}.",
    "Remind me what {x} is.",
    "definition of {n}",
    "meaning of {n}",
    "{n} definition",
    "{n} explained",
    "{n}, please.",
    "What is {x}, please?",
    "What is {x} and how does it work?",
    "So, what is {x}?",
    "OK, what is {x}?",
    "Why would I use {x}?",
    "When people say {n}, what do they mean?",
)
FOLLOW_UP_TEMPLATES = (
    "And {x}?",
    "And what is {x}?",
    "What about {x}?",
    "Now explain {x}.",
    "Thanks! What is {x}?",
    "Thank you. And {x}?",
    "Next: {n}",
)
HELD_OUT_TEMPLATES = (
    "Could you tell me what {x} is?",
    "What exactly is {x}?",
    "Please define {n}.",
    "I would like to understand {x}.",
    "In short, what is {x}?",
    "Can you describe {x} for me?",
    "Hello! What is {x}?",
    "Give me a short explanation of {x}.",
    "{n}: what is it?",
    "Tell me what {n} means.",
)

# The terms a newcomer asks for first, and those whose words occur in many other names.
FREQUENT = ("KV cache", "prefill", "decode", "time to first token", "NVIDIA Dynamo", "token")

PAIR_TEMPLATES = (
    "What is the difference between {a} and {b}?",
    "{a} vs {b}",
    "{a} vs. {b}?",
    "How does {a} differ from {b}?",
    "How do {a} and {b} differ?",
    "Compare {a} and {b}.",
    "{a} versus {b}",
    "{a} or {b}?",
    "Explain the difference between {a} and {b}.",
    "Is {a} the same as {b}?",
    "difference between {a} and {b}",
)
HELD_OUT_PAIR_TEMPLATES = (
    "What's the difference between {a} and {b}?",
    "Compare {a} with {b}.",
    "How is {a} different from {b}?",
)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are an expert in LLM inference.",
    "Answer in one sentence.",
    "Be concise.",
    "You are a demo of dynamo-llm.",
    "You answer questions about LLM serving.",
    "You are a friendly chatbot. Answer briefly.",
    "You are a teacher. Explain the terms of LLM serving to newcomers.",
    "Please answer every question truthfully and in plain English.",
    "Answer politely.",
    "You are ChatGPT, a large language model.",
    "You are an AI assistant that helps people find information.",
    "Respond in English.",
    "You are a senior engineer.",
    "The user is new to LLM serving. Help them.",
)
HELD_OUT_SYSTEM_PROMPTS = (
    "You are a concise and helpful assistant.",
    "You are a tutor for inference engineers.",
    "Answer the question of the user.",
)


class Turn(NamedTuple):
    """A question, the answer it must get, and the category it is counted under."""

    question: str
    answer: str
    category: str


@dataclass(frozen=True)
class Name:
    """A name of a term: the words, the article before them, and whether it is a plural."""

    text: str
    article: str = ""
    plural: bool = False

    @staticmethod
    def parse(text: str) -> Name:
        """Read a name; ``are`` before it marks a plural, ``a``, ``an`` and ``the`` are articles."""
        head, _, tail = text.strip().partition(" ")
        if head == "are" and tail:
            return Name(tail, "", True)
        if head in {"a", "an", "the"} and tail:
            return Name(tail, head + " ")
        return Name(text.strip())

    def ask(self, template: str) -> str:
        """Fill ``template`` with this name."""
        if self.plural:
            template = template.replace("What is {x}", "What are {n}")
            template = template.replace("what is {x}", "what are {n}")
            template = template.replace("What is {n}", "What are {n}")
            template = template.replace("What's {x}", "What are {n}")
            template = template.replace("what is the {n}", "what are the {n}")
            template = template.replace("What exactly is {x}", "What exactly are {n}")
            template = template.replace("{x} is", "{n} are").replace("{n} means", "{n} mean")
            template = template.replace("does {n} mean", "do {n} mean")
            template = template.replace("does {x} work", "do {n} work")
            template = template.replace("what is it?", "what are they?")
            template = template.replace("how does it work", "how do they work")
        question = template.replace("{x}", self.article + self.text).replace("{n}", self.text)
        return question[0].upper() + question[1:] if template[0].isupper() else question

    def plural_name(self) -> Name | None:
        """Return the plural of a countable name, if this is one."""
        if self.article not in {"a ", "an "} or self.text[-1] in "sS.)0123456789":
            return None
        if re.search(r"[^aeiou]y$", self.text):
            return Name(self.text[:-1] + "ies", "", True)
        suffix = "es" if re.search(r"(x|ch|sh|z)$", self.text) else "s"
        return Name(self.text + suffix, "", True)


@dataclass(frozen=True)
class Term:
    """A term: its names, the usual one first, and its definition."""

    names: tuple[Name, ...]
    answer: str


@dataclass(frozen=True)
class Pair:
    """Two things and the difference between them."""

    first: str
    second: str
    answer: str


@dataclass(frozen=True)
class Talk:
    """Questions taken word for word, and their answer."""

    questions: tuple[str, ...]
    answer: str


def read_blocks(path: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (alternatives, answer) of each two-line block of a text file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line.strip() for line in lines if not line.startswith("#")]
    if len(lines) % 2:
        raise ValueError(f"{path.name}: a block is not two lines long")
    for head, answer in zip(lines[::2], lines[1::2], strict=True):
        yield tuple(part.strip() for part in head.split(" | ")), answer


def read_sections(path: Path) -> dict[str, list[str]]:
    """Return the comma- or line-separated items of each ``[section]`` of a text file."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    separator = ","
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            name = line.strip("[] \n")
            separator = "\n" if name.endswith("lines") else ","
            current = sections.setdefault(name, [])
        else:
            current.extend(item.strip() for item in line.split(separator) if item.strip())
    return sections


def _split(items: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split items into a training part and a held-out part (every seventh)."""
    train = [item for index, item in enumerate(items) if index % 7 != 3]
    return train, [item for index, item in enumerate(items) if index % 7 == 3]


def _made_up_word(rng: random.Random) -> str:
    """Return a word that does not exist."""
    onset = "b bl br c ch cl d dr f fl fr g gl gr h j k kn l m n p pl pr qu r s sh sl sn st t tr v w z"
    nucleus = "a e i o u a e i o u ee oo ai ou ea"
    coda = "b ck d f g l ll m n nd ng nk p r rt s sk st t x zz"
    onsets, nuclei, codas = onset.split(), nucleus.split(), [*coda.split(), "", "", "", ""]
    word = "".join(
        rng.choice(onsets) + rng.choice(nuclei) + rng.choice(codas) for _ in range(rng.choice((1, 2, 2, 3)))
    )
    return word if len(word) > 3 else word + rng.choice(("ix", "ora", "le", "um"))


def _gibberish(rng: random.Random) -> str:
    """Return random letters."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(4, 10)))


def _typo(text: str, rng: random.Random) -> str:
    """Swap, drop or double one letter of a long word of ``text``."""
    spots = [
        match.start() + index
        for match in re.finditer(r"[A-Za-z]{7,}", text)
        for index in range(2, len(match.group()) - 2)
    ]
    if not spots:
        return text
    at = rng.choice(spots)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]


def _vary(question: str, rng: random.Random) -> str:
    """Vary letter case and closing punctuation as people do."""
    roll = rng.random()
    if roll < 0.25:
        question = question.lower()
    elif roll < 0.35:
        question = question[0].lower() + question[1:]
    elif roll < 0.38:
        question = question.upper()
    roll = rng.random()
    if roll < 0.25 and len(question) > 3:
        question = question.rstrip("?.!")
    elif roll < 0.30:
        question = question.rstrip("?.!") + rng.choice((" ?", "??", "...", "!", "?!", " please"))
    return question


@dataclass
class Dataset:
    """The source texts and the random conversations made from them."""

    terms: list[Term] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)
    off_topic: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    @staticmethod
    def load(folder: Path = HERE) -> Dataset:
        """Read the text files and check that no name is defined twice."""
        data = Dataset()
        for names, answer in read_blocks(folder / "terms.txt"):
            data.terms.append(Term(tuple(Name.parse(name) for name in names), answer))
        for names, answer in read_blocks(folder / "pairs.txt"):
            first, second = names
            data.pairs.append(Pair(first, second, answer))
        for names, answer in read_blocks(folder / "talk.txt"):
            data.talks.append(Talk(names, answer))
        for name, items in read_sections(folder / "offtopic.txt").items():
            data.off_topic[name.split()[0]] = _split(items)
        data.check()
        return data

    def check(self) -> None:
        """Raise if a name or question occurs twice, or an answer is not a sentence."""
        owners: dict[str, str] = {}
        keys = [(name.text, term.answer) for term in self.terms for name in term.names]
        keys += [(question, talk.answer) for talk in self.talks for question in talk.questions]
        for key, answer in keys:
            if owners.setdefault(key.lower().rstrip("?.! "), answer) != answer:
                raise ValueError(f"{key!r} has two answers")
        answers = [term.answer for term in self.terms]
        answers += [pair.answer for pair in self.pairs] + [talk.answer for talk in self.talks]
        for answer in answers:
            if answer[-1] not in ".!?。👋🙂":
                raise ValueError(f"not a sentence: {answer!r}")
        names = {name.text.lower() for term in self.terms for name in term.names}
        for train, held_out in self.off_topic.values():
            clash = names.intersection(item.lower() for item in (*train, *held_out))
            if clash:
                raise ValueError(f"both a term and off topic: {sorted(clash)}")

    # -- one turn ---------------------------------------------------------------------------

    def term_turn(self, term: Term, rng: random.Random, follow_up: bool = False) -> Turn:
        """Ask for ``term`` in a random way."""
        weights = [3.0] + [1.0] * (len(term.names) - 1)
        name = rng.choices(term.names, weights)[0]
        roll = rng.random()
        if roll < 0.06:
            name = name.plural_name() or name
        elif roll < 0.16:
            name = Name(name.text, "", name.plural)
        elif roll < 0.20:
            name = Name(name.text, "the ", name.plural)
        roll = rng.random()
        if roll < 0.04:
            name = Name(_typo(name.text, rng), name.article, name.plural)
        elif roll < 0.07:
            name = Name(name.text.replace("-", " "), name.article, name.plural)
        elif roll < 0.09:
            name = Name(name.text.replace(" ", "-"), name.article, name.plural)
        elif roll < 0.14:
            name = Name(name.text.title(), name.article, name.plural)
        roll = rng.random()
        if follow_up and roll < 0.25:
            template = rng.choice(FOLLOW_UP_TEMPLATES)
        elif roll < 0.22:
            template = COMMON_TEMPLATES[0]
        elif roll < 0.55:
            template = rng.choice(COMMON_TEMPLATES)
        else:
            template = rng.choice(MORE_TEMPLATES)
        return Turn(_vary(name.ask(template), rng), term.answer, "term")

    def pair_turn(self, pair: Pair, rng: random.Random) -> Turn:
        """Ask for the difference of ``pair`` in a random way."""
        first, second = pair.first, pair.second
        if rng.random() < 0.5:
            first, second = second, first
        question = rng.choice(PAIR_TEMPLATES).replace("{a}", first).replace("{b}", second)
        return Turn(_vary(question[0].upper() + question[1:], rng), pair.answer, "pair")

    def talk_turn(self, talk: Talk, rng: random.Random) -> Turn:
        """Say one of the lines of ``talk``."""
        question = rng.choice(talk.questions)
        if rng.random() < 0.5:
            question = _vary(question, rng)
        return Turn(question, talk.answer, "talk")

    def off_topic_turn(self, rng: random.Random, held_out: bool = False) -> Turn:
        """Ask something that has nothing to do with LLM serving."""
        part = 1 if held_out else 0
        pick = {name: items[part] for name, items in self.off_topic.items()}
        templates = HELD_OUT_TEMPLATES if held_out else (*COMMON_TEMPLATES, *MORE_TEMPLATES)
        category = "off-topic question"
        roll = rng.random()
        if roll < 0.30:
            question = rng.choice(pick["questions"])
        elif roll < 0.45:
            question = rng.choice(pick["frames"])
            for slot in ("thing", "person", "place", "dish", "activity"):
                question = question.replace("{" + slot + "}", rng.choice(pick[slot]))
            question = question.replace("{number}", str(rng.randint(2, 2000)))
            question = question.replace("{digit}", str(rng.randint(2, 99)))
        else:
            if roll < 0.75:
                category = "off-topic noun"
                slot = rng.choice(("thing", "thing", "thing", "near", "near", "dish", "activity"))
                text = rng.choice(pick[slot])
                if slot == "thing" and rng.random() < 0.2:
                    text = f"{rng.choice(pick['adjective'])} {text}"
                if slot == "thing" and rng.random() < 0.15:
                    text = f"{text} {rng.choice(pick['thing'])}"
            elif roll < 0.92:
                category = "made-up word"
                text = _made_up_word(rng)
                if rng.random() < 0.2:
                    text = f"{text} {_made_up_word(rng)}"
            elif roll < 0.97:
                category = "made-up word"
                text = _gibberish(rng)
            else:
                category = "mixed words"
                word = rng.choice(rng.choice(self.terms).names).text.split()[-1]
                text = f"{rng.choice(pick['thing'])} {word}"
            article = rng.choice(("a ", "", "the ")) if rng.random() < 0.7 else ""
            if article == "a " and text[0] in "aeiou":
                article = "an "
            template = templates[0] if rng.random() < 0.25 else rng.choice(templates)
            question = Name(text, article).ask(template)
        return Turn(_vary(question, rng) if not held_out else question, REFUSAL, category)

    # -- conversations ----------------------------------------------------------------------

    def cycle(self, rng: random.Random) -> list[tuple[str, Term | Pair | Talk | None]]:
        """Return every entry once (more often if it has many names), in random order."""
        items: list[tuple[str, Term | Pair | Talk | None]] = []
        for term in self.terms:
            extra = 0.25 * (len(term.names) - 1) + 4 * (term.names[0].text in FREQUENT)
            items += [("term", term)] * (1 + int(extra) + (rng.random() < extra % 1))
        items += [("pair", pair) for pair in self.pairs]
        for talk in self.talks:
            items += [("talk", talk)] * max(1, len(talk.questions) // 5)
        items += [("off", None)] * max(1, int(0.4 * len(items)))
        rng.shuffle(items)
        return items

    def conversations(self, rng: random.Random) -> Iterator[list[Message]]:
        """Yield training conversations for ever."""
        queue: list[tuple[str, Term | Pair | Talk | None]] = []
        while True:
            count = rng.choices(range(1, 13), (58, 16, 11, 4, 3, 2, 1, 1, 1, 1, 1, 1))[0]
            messages: list[Message] = []
            if rng.random() < 0.2:
                messages.append(Message("system", rng.choice(SYSTEM_PROMPTS)))
            for index in range(count):
                if not queue:
                    queue = self.cycle(rng)
                turn = self.turn(queue.pop(), rng, follow_up=index > 0)
                messages.append(Message("user", turn.question))
                messages.append(Message("assistant", turn.answer))
            yield messages

    def turn(self, item: tuple[str, Term | Pair | Talk | None], rng: random.Random, follow_up: bool) -> Turn:
        """Make a turn from an item of ``cycle``."""
        entry = item[1]
        if isinstance(entry, Term):
            return self.term_turn(entry, rng, follow_up)
        if isinstance(entry, Pair):
            return self.pair_turn(entry, rng)
        if isinstance(entry, Talk):
            return self.talk_turn(entry, rng)
        return self.off_topic_turn(rng)

    def texts(self) -> Iterator[str]:
        """Yield the texts the vocabulary is made from; answers weigh most."""
        for term in self.terms:
            for _ in range(4):
                yield term.answer
            for name in term.names:
                yield from (
                    name.text,
                    f"is {name.text}",
                    f"{name.text.lower()} {name.text.lower()}",
                )
        for pair in self.pairs:
            for _ in range(4):
                yield pair.answer
        for talk in self.talks:
            for _ in range(4):
                yield talk.answer
            yield from talk.questions
        yield from (REFUSAL,) * 20
        for template in (*COMMON_TEMPLATES, *MORE_TEMPLATES, *FOLLOW_UP_TEMPLATES, *PAIR_TEMPLATES):
            for _ in range(6):
                yield re.sub(r"\{\w\}", " ", template)
        yield from SYSTEM_PROMPTS
        for train, _ in self.off_topic.values():
            yield from train
