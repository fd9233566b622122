# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers of each kind that the library ``tokenizers`` knows, as families of models have them."""

import base64
import zlib
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Core

corpus = [
    "The quick brown fox jumps over the lazy dog. Don't stop, it's 2024!",
    "Zürich 東京 hello you the then these; café naïve, 1234567 items",
    "def f(x):\n    return x + 1\n\n\ttab  two  blanks",
    "Привет мир, γειά σου κόσμε, שלום, مرحبا, नमस्ते, 안녕하세요",
] * 5

#: Compiled by SentencePiece of the rules ﬁ to fi, Ａ to A, ½ to 1/2, e and U+0301 to é, U+00A0 to a blank.
charsmap = zlib.decompress(
    base64.b64decode(
        "eNod0wmQD1QcB/BnxZixkSuNcVXu1Np1Z4XKfcsZKWmXjVBEOXeLMM5y37uusayrAzk3GxXrzJWzyFHRpdyqz78385nvm/nNvPdm"
        "fr8XHgghTM0REuJzhuwQFVJKhJA3hOTUB0NkJUeRkiuEPDIjOiqkqee2j1bMTz4K8BCFKEgRClOUh9k2IoRH5NbMqFBMOiIUpxQl"
        "eZTSPM5jlKUM5SlHRSrwBJV4ksrE8BSxVKEqcVSnGjWpQW1qUYenqUs89XiGBtTnOZ6lIc/TmEY0pQnNaUZLWtCaVrSlDS/Qjg60"
        "pxMd6UJnuvIiL9GNl+lOD16hJ6+SwGv0IpEketOH13mDvvSnH28ygIG8xdsMYgiDeZd3GMZQtCMMZxQjSYk0mvd5jzGMZiwfMJ5x"
        "TOC3T0OYJCcyhcl8GBkhpvERM5jOLGYyh9nMYy4LmM8iFpJGKktYzDKWstOQLZfprGAVK1lNBmtZw3rW8Qkf8xmeGTaygc/ZxBY2"
        "R+YxMovsYDtfkElW5E528SVfsZtv+Jq97GEf2RxgP4c4yLcc5ihHOM4xvuMEpzjJGU5zjrP8wPdc4DwX+ZHLXOInrvALP3ONq5Fe"
        "8Ct/8DvX+ZO/+Yub3OA2t7jLHe5zj3/55/+/FxsT5xckJoWs9PAfZz+ODw=="
    )
)

#: Patterns of pre-tokenizers: they differ in digits and in what follows a line's end.
_contractions = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_gpt4 = (
    _contractions
    + r"|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_llama3 = (
    _contractions + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_qwen2 = _contractions + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _byte_level(pre_tokenizer: Any, normalizer: Any = None, ignore_merges: bool = False) -> Core:
    core = Core(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        core.normalizer = normalizer
    core.pre_tokenizer = pre_tokenizer
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    core.add_special_tokens(["<|begin|>", "<|end|>"])
    return core


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def gpt2() -> Core:
    core = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    return core


def roberta() -> Core:
    core = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    core.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True, special=True)])
    core.post_processor = processors.RobertaProcessing(
        ("</s>", core.token_to_id("</s>")), ("<s>", core.token_to_id("<s>"))
    )
    return core


def gpt4() -> Core:
    return _byte_level(_split(_gpt4))


def llama3() -> Core:
    core = _byte_level(_split(_llama3), ignore_merges=True)
    begin = ("<|begin|>", core.token_to_id("<|begin|>"))
    core.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin]),
        ]
    )
    return core


def qwen2() -> Core:
    return _byte_level(_split(_qwen2), normalizers.NFC())


def deepseek() -> Core:
    core = _byte_level(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), behavior="isolated"),
                pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        ),
        normalizers.Sequence([]),
    )
    core.decoder = decoders.Sequence([decoders.ByteLevel()])
    return core


def falcon() -> Core:
    return _byte_level(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation(behavior="contiguous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
            ]
        )
    )


def starcoder() -> Core:
    return _byte_level(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    )


def _byte_fallback(normalizer: Any, pre_tokenizer: Any, decoder: list[Any]) -> Core:
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words += [*"abcdefghijklmnopqrstuvwxyzTDZ.,'!?;:()=+\n\t", *"0123456789", "é", "東"]
    merges = [
        ("▁", "t"),
        ("▁t", "h"),
        ("▁th", "e"),
        ("h", "e"),
        ("o", "u"),
        ("▁", "▁"),
        ("l", "l"),
        ("i", "s"),
    ]
    vocabulary = [*words, *(one + other for one, other in merges)]
    model = models.BPE(
        {word: id for id, word in enumerate(vocabulary)},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    core = Core(model)
    core.normalizer = normalizer
    if pre_tokenizer is not None:
        core.pre_tokenizer = pre_tokenizer
    core.decoder = decoders.Sequence(decoder)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    core.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in ("<unk>", "<s>", "</s>")]
    )
    return core


def _fallback_decoders(*more: Any) -> list[Any]:
    return [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *more]


def llama2() -> Core:
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _byte_fallback(normalizer, None, _fallback_decoders(decoders.Strip(" ", 1, 0)))


def llama2_not_legacy() -> Core:
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _byte_fallback(
        normalizers.Sequence([]), pre_tokenizer, _fallback_decoders(decoders.Strip(" ", 1, 0))
    )


def gemma() -> Core:
    pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    return _byte_fallback(normalizers.Replace(" ", "▁"), pre_tokenizer, _fallback_decoders())


def _unigram(normalizer: Any, pre_tokenizer: Any, decoder: Any) -> Core:
    core = Core(models.Unigram())
    core.normalizer = normalizer
    core.pre_tokenizer = pre_tokenizer
    core.decoder = decoder
    core.train_from_iterator(
        corpus,
        trainers.UnigramTrainer(
            vocab_size=260, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return core


def t5() -> Core:
    normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    return _unigram(normalizer, pre_tokenizers.Metaspace(), decoders.Metaspace())


def xlnet() -> Core:
    normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
        ]
    )
    return _unigram(normalizer, pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace())


def unigram_without_prefix() -> Core:
    return _unigram(
        normalizers.NFKC(),
        pre_tokenizers.Metaspace(prepend_scheme="never"),
        decoders.Metaspace(prepend_scheme="never"),
    )


def unigram_by_scripts() -> Core:
    pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), pre_tokenizers.Metaspace()])
    return _unigram(normalizers.Strip(), pre_tokenizer, decoders.Metaspace())


def unigram_with_bytes() -> Core:
    pieces = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        *((f"<0x{byte:02X}>", -9.0) for byte in range(256)),
    ]
    pieces += [(letter, -4.0) for letter in "▁abcdefghijklmnopqrstuvwxyz.,"] + [("▁the", -1.0), ("▁a", -1.5)]
    core = Core(models.Unigram(pieces, 0, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(_fallback_decoders(decoders.Strip(" ", 1, 0)))
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    return core


def _word_piece(lowercase: bool) -> Core:
    core = Core(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core.train_from_iterator(
        corpus, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    return core


def bert_uncased() -> Core:
    core = _word_piece(True)
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return core


def bert_cased() -> Core:
    core = _word_piece(False)
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return core


def _word_level(pre_tokenizer: Any, normalizer: Any = None) -> Core:
    core = Core(models.WordLevel(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        core.normalizer = normalizer
    core.train_from_iterator(corpus, trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
    return core


def word_level() -> Core:
    return _word_level(pre_tokenizers.Whitespace())


def word_level_lowercase() -> Core:
    normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    return _word_level(pre_tokenizers.WhitespaceSplit(), normalizer)


def words_between_bars() -> Core:
    return _word_level(pre_tokenizers.CharDelimiterSplit(" "), normalizers.Replace("|", " "))


def words_and_punctuation() -> Core:
    pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return _word_level(pre_tokenizer)


def gpt1() -> Core:
    core = Core(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
        ),
    )
    return core


def wav2vec2() -> Core:
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"EHTAONISRDLUMWCFGYPBVK'XJQZ"]
    core = Core(models.WordLevel({letter: id for id, letter in enumerate(letters)}, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "|")
    core.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    core.decoder = decoders.CTC()
    return core


def added_tokens() -> Core:
    """Byte-level, with added tokens of all flags."""
    core = gpt2()
    core.normalizer = normalizers.Lowercase()
    core.add_tokens(
        [
            AddedToken("<left>", lstrip=True, normalized=False),
            AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("fox", single_word=True, normalized=True),
            AddedToken("LOUD", normalized=True),
            AddedToken("<tool>", special=True, normalized=False),
        ]
    )
    return core


kinds: dict[str, Callable[[], Core]] = {
    "BPE, byte level (GPT-2)": gpt2,
    "BPE, byte level with a blank in front (RoBERTa)": roberta,
    "BPE, split as GPT-4": gpt4,
    "BPE, split as Llama 3, BOS": llama3,
    "BPE, split as Qwen 2, NFC": qwen2,
    "BPE, several splits (DeepSeek)": deepseek,
    "BPE, punctuation and digits (Falcon)": falcon,
    "BPE, single digits (StarCoder)": starcoder,
    "BPE, byte fallback (Llama 2)": llama2,
    "BPE, byte fallback, Metaspace first (Llama 2, not legacy)": llama2_not_legacy,
    "BPE, byte fallback, no blank in front (Gemma)": gemma,
    "BPE, words that end with a suffix (GPT-1)": gpt1,
    "BPE, added tokens of all flags": added_tokens,
    "Unigram, precompiled normalizer (T5)": t5,
    "Unigram, lowercase without accents (XLNet)": xlnet,
    "Unigram, no blank in front, NFKC": unigram_without_prefix,
    "Unigram, by scripts": unigram_by_scripts,
    "Unigram, byte fallback": unigram_with_bytes,
    "WordPiece, lowercase (BERT)": bert_uncased,
    "WordPiece, cased (BERT)": bert_cased,
    "WordLevel, white space": word_level,
    "WordLevel, lowercase without accents": word_level_lowercase,
    "WordLevel, delimiter": words_between_bars,
    "WordLevel, punctuation": words_and_punctuation,
    "WordLevel, CTC (wav2vec 2.0)": wav2vec2,
}
