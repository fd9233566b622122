# SPDX-License-Identifier: Apache-2.0
"""Chat templates: their input and output, compared with transformers."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime.pipeline.model_folder import ModelFolder
from rendering import renderer

special = {"bos_token": "<s>", "eos_token": "</s>"}

templates = {
    "chatml": (
        "{% for message in messages %}\n"
        "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama": (
        "{{- bos_token }}\n"
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}\n"
        "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system }}\n"
        "{%- if tools is not none %}{%- for t in tools %}{{- t | tojson(indent=4) }}\n"
        "{{- '\\n\\n' }}{%- endfor %}{%- endif %}{{- '<|eot_id|>' }}\n"
        "{%- for message in messages %}\n"
        "  {%- if message.tool_calls %}\n"
        "    {%- set call = message.tool_calls[0].function %}\n"
        "    {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' + call.arguments | tojson + '}' }}\n"
        "  {%- elif message.role == 'tool' %}{{- '<|ipython|>' + message.content | tojson }}\n"
        "  {%- else %}{{- '<|' + message.role + '|>\\n\\n' + message.content | trim + '<|eot_id|>' }}\n"
        "  {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{- '<|assistant|>\\n\\n' }}{%- endif %}\n"
    ),
    "qwen": (
        "{%- if tools %}{{- '<tools>' }}\n"
        "{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}\n"
        "    {{- '</tools>' }}{%- endif %}\n"
        "{%- set ns = namespace(last=-1) %}\n"
        "{%- for message in messages[::-1] %}{%- set index = (messages | length - 1) - loop.index0 %}\n"
        "    {%- if ns.last < 0 and message.role == 'user' %}{%- set ns.last = index %}{%- break %}\n"
        "{%- endif %}{%- endfor %}\n"
        "{%- for message in messages %}\n"
        "    {{- '<' + message.role + '>' }}\n"
        "    {%- if message.reasoning_content is defined and loop.index0 > ns.last %}\n"
        "        {{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}\n"
        "    {%- if message.content is string %}{%- generation %}{{- message.content }}\n"
        "{%- endgeneration %}{%- endif %}\n"
        "    {%- for call in message.tool_calls or [] %}\n"
        "        {{- '<call>' + call.function.name + (call.function.arguments | tojson) }}\n"
        "    {%- endfor %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{- '<assistant>' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<no>' }}{%- endif %}\n"
        "{%- endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}\n"
        "{% if tools and loop.last %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}\n"
        "{% endif %}{{ '[INST] ' + message.content + ' [/INST]' }}\n"
        "    {% elif message.role == 'assistant' %}{% if message.content is defined %}\n"
        "{{ ' ' + message.content + eos_token }}{% endif %}\n"
        "    {% elif message.role == 'tool' %}{% continue %}\n"
        "    {% else %}{{ raise_exception('Only user and assistant, not ' + message.role) }}\n"
        "    {% endif %}{% endfor %}"
    ),
}
tools = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather <now> & later, é",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
talk = [
    {"role": "user", "content": "  What's the weather in Zürich?  "},
    {"role": "assistant", "content": "I <look> & see. "},
    {"role": "user", "content": "And 東京 😀?"},
]
call = [
    *talk,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "東京"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
]
thinking = [*talk, {"role": "assistant", "content": "so", "reasoning_content": "hm"}]


def render(template: str, messages: list[dict[str, Any]], **body: Any) -> str:
    return renderer({"default": template}, special).render({"messages": messages, **body})


@pytest.mark.parametrize("name", templates)
@pytest.mark.parametrize("messages", [talk, call, thinking, [{"role": "system", "content": "Be."}, *talk]])
@pytest.mark.parametrize("given", [None, tools])
@pytest.mark.parametrize("add_prompt", [True, False])
def test_same_as_transformers(name: str, messages: Any, given: Any, add_prompt: bool) -> None:
    """The text is the same as with transformers, or both raise an error."""
    transformers = pytest.importorskip("transformers")
    if given and name == "chatml":  # transformers omits the tools silently
        with pytest.raises(NotSupportedError, match="tools"):
            render(templates[name], messages, tools=given)
        return
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(demo_model_dir() / "tokenizer.json"), **special
    )
    body = {"add_generation_prompt": add_prompt, **({"tools": given} if given else {})}
    objects = json.loads(json.dumps(messages))
    for message in objects:
        for one in message.get("tool_calls", ()):
            one["function"]["arguments"] = json.loads(one["function"]["arguments"])
        if message["content"] is None:  # absent where the template asks for it, empty elsewhere
            message["content"] = ""
            if "content is defined" in templates[name]:
                del message["content"]
    try:
        expected = tokenizer.apply_chat_template(
            objects, chat_template=templates[name], tokenize=False, **body
        )
    except Exception as error:
        with pytest.raises(InvalidRequestError) as raised:
            render(templates[name], messages, **body)
        assert str(error) in str(raised.value)
        return
    assert render(templates[name], messages, **body) == expected


@pytest.mark.parametrize("name", ["chatml", "llama", "qwen"])
@pytest.mark.parametrize("content", ["I see ", "I see", " I see\n"])
def test_continued_as_transformers(name: str, content: str) -> None:
    """The prompt ends where the last message does."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(demo_model_dir() / "tokenizer.json"), **special
    )
    messages = [*talk, {"role": "assistant", "content": content}]
    expected = tokenizer.apply_chat_template(
        messages, chat_template=templates[name], tokenize=False, continue_final_message=True
    )
    assert render(templates[name], messages, continue_final_message=True) == expected


def test_texts() -> None:
    """The exact output of the templates."""
    assert render(templates["chatml"], talk[2:]) == (
        "<|im_start|>user\nAnd 東京 😀?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(templates["qwen"], call[2:], tools=tools[:1]) == (
        "<tools>\n" + json.dumps(tools[0], ensure_ascii=False) + "</tools>"
        '<user>And 東京 😀?<assistant><call>get_weather{"city": "東京"}<tool>sunny<assistant>'
    )
    assert render(templates["qwen"], talk[2:], chat_template_kwargs={"enable_thinking": False}).endswith(
        "<assistant><no>"
    )
    assert render(templates["mistral"], talk[:2]) == (
        "<s>[INST]   What's the weather in Zürich?   [/INST]\n I <look> & see. </s>"
    )
    assert render("{{ strftime_now('%Y') }}", talk) in (
        str(datetime.datetime.now().year),
        str(datetime.datetime.now().year - 1),
    )


def test_parts() -> None:
    """Text parts are joined as lines; for other parts, the error names their position and type."""
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert render("{{ messages[0].content }}", [{"role": "user", "content": parts}]) == "a \nb"
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(
        NotSupportedError, match=r'"messages\[0\].content\[2\]" .*"image_url"; .* only reads text'
    ):
        render("", [{"role": "user", "content": [*parts, image]}])
    with pytest.raises(InvalidRequestError, match=r'content\[0\]" of the request must be an object'):
        render("", [{"role": "user", "content": ["a"]}])
    with pytest.raises(InvalidRequestError, match='needs a string "text"'):
        render("", [{"role": "user", "content": [{"type": "text", "text": 3}]}])


def test_calls() -> None:
    """Arguments of tool calls are objects for templates; the error names arguments that are not JSON."""
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}
    shown = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
    assert render(shown, [message]) == "{}"
    message["tool_calls"][0]["function"]["arguments"] = "{"  # type: ignore[index]
    with pytest.raises(
        InvalidRequestError, match=r"messages\[0\].tool_calls\[0\].function.arguments.*not valid JSON"
    ):
        render(shown, [message])
    with pytest.raises(InvalidRequestError, match='"function" with a "name"'):
        render(shown, [{"role": "assistant", "tool_calls": [{}]}])


def test_errors_of_templates() -> None:
    """An error that a template raises, its runtime errors, and its syntax errors reach the caller."""
    with pytest.raises(
        InvalidRequestError, match="refuses the messages: Only user and assistant, not system"
    ):
        render(templates["mistral"], [{"role": "system", "content": ""}])
    with pytest.raises(InvalidRequestError, match="refuses the messages: 'dict object' has no attribute 'x'"):
        render("{{ messages[0].x.y }}", talk)
    with pytest.raises(InvalidRequestError, match=r"is not valid: .*\(line 2\)"):
        render("a\n{% if %}", talk)
    with pytest.raises(InvalidRequestError, match=r"unsafe|not safely callable|has no attribute"):
        render("{{ ''.__class__.__mro__[1].__subclasses__() }}", talk)
    with pytest.raises(InvalidRequestError, match=r"Range too big|OverflowError"):
        render("{% for i in range(10**12) %}{% endfor %}", talk)


def test_keys_that_a_template_does_not_support() -> None:
    """Keys that would change the answer are not ignored."""
    for key, value in {"tools": tools, "documents": [{"text": "x"}]}.items():
        with pytest.raises(NotSupportedError, match=f'does not use "{key}"'):
            render(templates["chatml"], talk, **{key: value})
        assert render("{{ " + key + " | tojson }}", talk, **{key: value}) == json.dumps(
            value, ensure_ascii=False
        )
    assert render(templates["qwen"], talk, tools=tools, tool_choice="none") == render(templates["qwen"], talk)
    with pytest.raises(NotSupportedError, match="no chat template"):
        renderer({}, {}).render({"messages": talk})
    with pytest.raises(InvalidRequestError, match="exclude each other"):
        render(templates["qwen"], talk, continue_final_message=True, add_generation_prompt=True)
    with pytest.raises(InvalidRequestError, match="leaves out or changes the last message"):
        render("{{ messages[0].content }}", talk, continue_final_message=True)


def test_named_templates() -> None:
    """Tools and documents select their template; the body names one, or contains its own."""
    sources = {"default": "d", "tool_use": "t{{ tools }}", "rag": "r{{ documents }}"}
    named = renderer(sources, {})
    assert named.render({"messages": talk}) == "d"
    assert named.render({"messages": talk, "tools": tools}).startswith("t[")
    assert named.render({"messages": talk, "documents": [{"text": "x"}]}).startswith("r[")
    assert named.render({"messages": talk, "chat_template": "rag"}) == "rNone"
    assert named.render({"messages": talk, "chat_template": "own {{ messages | length }}"}) == "own 3"
    with pytest.raises(InvalidRequestError, match=r"name one .*: rag"):
        renderer({"rag": "r"}, {}).render({"messages": talk})


def test_files(tmp_path: Path) -> None:
    """The files of a model folder with templates and special tokens."""
    (tmp_path / "tokenizer.json").write_text("{}")
    config: dict[str, Any] = {
        "chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}],
        "bos_token": {"content": "<s>", "special": True},
        "additional_special_tokens": [{"content": "<x>"}, "<y>"],
        "extra_special_tokens": {"image_token": "<image>"},
        "model_max_length": 10**30,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<map>", "eos_token": "</s>"}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    (tmp_path / "config.json").write_text(
        '{"eos_token_id": 5, "text_config": {"max_position_embeddings": 7}}'
    )
    folder = ModelFolder(tmp_path)
    assert folder.chat_templates == {"default": "d", "tool_use": "t"}
    assert folder.special_tokens == {
        "bos_token": "<map>",
        "eos_token": "</s>",
        "image_token": "<image>",
        "additional_special_tokens": ["<x>", "<y>"],
    }
    assert folder.eos_token_ids == [5, 6]
    assert folder.context_length == 7
    (tmp_path / "chat_template.jinja").write_text("file")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("r")
    assert ModelFolder(tmp_path).chat_templates == {"default": "file", "tool_use": "t", "rag": "r"}


@pytest.mark.parametrize("change", ["[:5]", "|truncate(12)", "|wordwrap(10)", "|reverse", "|upper", "|trim"])
@pytest.mark.parametrize("text", ["hi", "hello there my dear friend of mine", "a\n\nb  c", "<b>&"])
def test_changed_texts(change: str, text: str) -> None:
    """A template may cut, wrap, or reverse texts: these are not omitted."""
    source = f"{{% for m in messages %}}<{{{{ m.role }}}}>{{{{ m.content{change} }}}}{{% endfor %}}"
    messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    prompt = renderer({"default": source}, special).render({"messages": messages})
    assert "<system>" in prompt and "<user>" in prompt


@pytest.mark.parametrize("text", ["hi", "the same text of all messages", "the same text" * 50])
def test_omission_among_equal_texts(text: str) -> None:
    """An omitted system message is found even if another message has the same text."""
    source = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    messages = [{"role": role, "content": text} for role in ("system", "user", "assistant", "user")]
    with pytest.raises(NotSupportedError, match=r"messages\[0\]"):
        renderer({"default": source}, special).render({"messages": messages})


@pytest.mark.parametrize("result", ["18", "a result that is long enough", '{"sky": "blue"}'])
def test_omitted_tool_results(result: str, caplog: pytest.LogCaptureFixture) -> None:
    """A template that omits tool results is logged once."""
    loop = "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content }}{% else %}RESULT{% endif %}"
    calls = "{% for t in m.tool_calls %}{{ t.function.name }}{% endfor %}{% endfor %}"
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What is above?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": result},
    ]
    for source, count in ((loop + calls, 1), (loop.replace("RESULT", "{{ m.content | tojson }}") + calls, 0)):
        caplog.clear()
        templates = renderer({"default": source}, special)
        for _ in range(2):
            templates.render({"messages": messages})
        assert sum("results of tools" in record.getMessage() for record in caplog.records) == count
