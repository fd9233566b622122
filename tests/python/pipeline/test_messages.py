# SPDX-License-Identifier: Apache-2.0
"""Messages reach a chat template in the form that it reads, or are rejected."""

import copy
import json
import logging
from typing import Any

import pytest
from dynamo_llm.errors import InvalidRequestError, NotSupportedError
from rendering import renderer

start, end = "{% for m in messages %}", "{% endfor %}"
parts_only = (
    start + "[{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}|{% endif %}{% endfor %}]" + end
)
both = (
    start + "[{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}|"
    "{% endfor %}{% endif %}]" + end
)
strings_only = start + "{{ '[' + m.content + ']' }}" + end


def render(template: str, messages: list[dict[str, Any]], **body: Any) -> str:
    given = copy.deepcopy(messages)
    text = renderer({"default": template}, {}).render({"messages": messages, **body})
    assert messages == given  # the body is unchanged
    return text


def user(content: Any = "question") -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def called(arguments: Any = '{"city":"Oslo"}', **message: Any) -> list[dict[str, Any]]:
    """Returns a question, a call, and its result."""
    call = {"id": "c", "type": "function", "index": None, "function": {"name": "f", "arguments": arguments}}
    return [
        user(),
        {"role": "assistant", "tool_calls": [call], **message},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ]


# ------------------------------------------------------------------------------------------ content


@pytest.mark.parametrize(
    ("template", "null", "absent"),
    [
        # empty, unless the template tests for it
        (start + "[{{ m.content.strip() }}]" + end, "[question][][r]", "[question][][r]"),
        (start + "{{ '[' + m.content + ']' }}" + end, "[question][][r]", "[question][][r]"),
        (start + "{{ m.content | tojson }}" + end, '"question""""r"', '"question""""r"'),
        (start + "{{ m.content | length }}" + end, "801", "801"),
        (start + "{{ '[' ~ m['content'] ~ ']' }}" + end, "[question][][r]", "[question][][r]"),
        (start + "{{ 1 if '</think>' in m.content else 0 }}" + end, "000", "000"),
        # null, if the template compares with none
        (start + "{{ 'none' if m.content is none else m.content }}" + end, "questionnoner", "questionnoner"),
        (start + "{% set c = m['content'] %}{{ c != None }}" + end, "TrueFalseTrue", "TrueFalseTrue"),
        (
            "{% macro f(c) %}{% if c is not none %}{{ c }}{% else %}-{% endif %}{% endmacro %}"
            + start + "{{ f(m.content) }}" + end,
            "question-r",
            "question-r",
        ),
        # absent, if the template only tests whether it is defined
        (start + "{{ m.content if m.content is defined else '-' }}" + end, "question-r", "question-r"),
        (start + "{{ m.content if 'content' in m else '-' }}" + end, "question-r", "question-r"),
        # unchanged, if the template does both
        (
            start + "{{ '-' if m.content is not defined else 0 if m.content is none else 1 }}" + end,
            "101",
            "1-1",
        ),
        # no part
        (parts_only, "[question|][][r|]".replace("[]", "[|]"), "[question|][|][r|]"),
    ],
)  # fmt: skip
def test_null_content(template: str, null: str, absent: str) -> None:
    assert render(template, called(content=None)) == null
    assert render(template, called()) == absent


def test_null_keys() -> None:
    """Keys that are null count as absent; so does an empty list of calls."""
    nulls: dict[str, Any] = dict.fromkeys(
        ["refusal", "annotations", "audio", "function_call", "tool_calls", "name"]
    )
    messages = [user(), {"role": "assistant", "content": "a", **nulls}, user("b")]
    keys = start + "{{ m.keys() | list | join(',') }} " + end
    assert render(keys, messages) == "role,content role,content role,content "
    defined = start + "{{ m.tool_calls is defined }}{{ m.name }}{{ m.audio is none }} " + end
    assert render(defined, messages) == "FalseFalse " * 3
    messages[1]["tool_calls"] = []
    assert render(defined, messages) == "FalseFalse " * 3
    assert render(start + "{{ m.tool_calls[0] | tojson if m.tool_calls }}" + end, called(content="")) == (
        '{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}}'
    )


def test_refusals() -> None:
    """A refusal of the assistant counts as its content."""
    messages = [user(), {"role": "assistant", "content": None, "refusal": "No, never."}, user("why")]
    assert render(strings_only, messages) == "[question][No, never.][why]"
    messages[1] = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert render(strings_only, messages) == "[question][No.][why]"
    assert render(parts_only, messages) == "[question|][No.|][why|]"


@pytest.mark.parametrize("type", ["text", "input_text", "output_text"])
def test_parts(type: str) -> None:
    two = [user([{"type": type, "text": "first"}, {"type": type, "text": "second"}])]
    assert render(strings_only, two) == "[first\nsecond]"
    assert render(both, two) == "[first|second|]"
    assert render(parts_only, two) == "[first|second|]"
    assert render(strings_only, [user()]) == "[question]"
    assert render(both, [user()]) == "[question]"
    assert render(parts_only, [user()]) == "[question|]"


def test_parts_as_strings() -> None:
    """A template that reads parts of users may use the content of others as a string."""
    mixed = (
        "{% for m in messages %}{% if m.role == 'system' %}{USE}{% else %}"
        "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    for content in ("be brief", [text("be"), text("brief")]):
        written = content if isinstance(content, str) else "be\nbrief"
        for use, right in {
            "{{ m.content }}!": written + "!",
            "{{ '<' + m.content + '>' }}": f"<{written}>",
            "{{ m.content ~ '>' }}": written + ">",
            "{{ m.content | trim | upper }}": written.upper(),
            "{{ m.content.replace('b', 'B') }}": written.replace("b", "B"),
            "{{ m.content.split('e')[0] }}{{ m.content }}": "b" + written,
            "{{ 'brief' in m.content }}{{ m.content == 'x' }}{{ m.content }}": "TrueFalse" + written,
        }.items():
            messages = [{"role": "system", "content": content}, user()]
            assert render(mixed.replace("{USE}", use), messages) == right + "question"


def test_parts_in_the_sandbox() -> None:
    loop = "{% for p in messages[0].content %}{{ p.text }}{% endfor %}"
    for trick in (
        "{{ messages[0].content.__class__ }}",
        "{{ messages[0].content._text }}",
        "{{ messages[0].content.append(1) }}",
        "{{ '{0.__class__}'.format(messages[0].content) }}",
        "{{ messages[0].content.format.__self__ }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
    ):
        try:
            written = render(trick + loop, [user("{0.__class__}")])
        except InvalidRequestError as error:
            assert "template refuses the messages" in str(error)
        else:
            assert written == "{0.__class__}"


@pytest.mark.parametrize("type", ["image_url", "input_image", "input_audio", "file", "video"])
def test_other_parts(type: str) -> None:
    for template in (strings_only, both, parts_only):
        with pytest.raises(NotSupportedError, match=rf'"messages\[0\].content\[1\]" .*"{type}"'):
            render(template, [user([text("a"), {"type": type, type: {}}])])


# --------------------------------------------------------------------------------------- tool calls


@pytest.mark.parametrize(
    ("use", "right"),
    [
        ("{{ '<' + t.function.arguments + '>' }}", '<{"city":"Oslo"}>'),
        ("{{ t['function']['arguments'] }}", '{"city":"Oslo"}'),
        ("{{ t.function.arguments | tojson }}", '{"city": "Oslo"}'),
        ("{{ t.function | tojson }}", '{"name": "f", "arguments": {"city": "Oslo"}}'),
        ("{% for k, v in t.function.arguments | items %}{{ k }}={{ v }}{% endfor %}", "city=Oslo"),
        ("{% for k in t.function.arguments %}{{ k }}={{ t.function.arguments[k] }}{% endfor %}", "city=Oslo"),
        # transformers passes the message's value on
        (
            "{% if t.function.arguments is string %}{{ t.function.arguments }}{% else %}"
            "{{ t.function.arguments | tojson }}{% endif %}",
            '{"city":"Oslo"}',
        ),
        # not Python's notation
        ("{{ t.function.arguments.city }} {{ t.function.arguments }}", 'Oslo {"city":"Oslo"}'),
        (
            "{{ t.function.arguments | tojson }} {{ 'a' + t.function.arguments }}",
            '{"city": "Oslo"} a{"city":"Oslo"}',
        ),
    ],
)
def test_arguments(use: str, right: str) -> None:
    template = start + "{% for t in m.tool_calls %}" + use + end + end
    assert render(template, called()) == right
    assert render(template, called({"city": "Oslo"})).replace(": ", ":") == right.replace(": ", ":")


def test_arguments_that_are_not_json() -> None:
    string = start + "{% for t in m.tool_calls %}{{ t.function.arguments }}" + end + end
    mapping = start + "{% for t in m.tool_calls %}{{ t.function.arguments | tojson }}" + end + end
    for wrong in ("{", "city: Oslo", '{"a": 1} {"a": 2}'):
        assert render(string, called(wrong)) == wrong
        with pytest.raises(
            InvalidRequestError, match=r'"messages\[1\].tool_calls\[0\].function.arguments" .*not valid JSON'
        ):
            render(mapping, called(wrong))
    for none in ("", None, "{}"):
        assert render(string, called(none)) == render(mapping, called(none)) == "{}"


def test_old_calls() -> None:
    """``function_call`` and its result become a tool call, unless the template supports them."""
    messages = [
        user(),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "r"},
        {"role": "assistant", "content": "", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "s"},
    ]
    template = (
        start
        + "{{ m.role }}{% for t in m.tool_calls %} {{ t.type }} {{ t.id }} {{ t.function.name }}{% endfor %} "
        "{{ m.tool_call_id }}{{ m.content }} " + end
    )
    assert render(template, messages) == (
        "user question assistant function call00001 f  tool call00001r "
        "assistant function call00002 g  tool call00002s "
    )
    own = (
        start + "{{ m.function_call.name if m.function_call }}"
        "{% if m.role == 'function' %}!{% endif %}{{ m.content or '' }} " + end
    )
    assert render(own, messages) == "question f !r g !s "
    messages[1]["tool_calls"] = called()[1]["tool_calls"]
    with pytest.raises(InvalidRequestError, match='"function_call" and "tool_calls"'):
        render(template, messages)


# -------------------------------------------------------------------------------------------- roles


@pytest.mark.parametrize(
    ("template", "right"),
    [
        ("<{{ m.role }}>", "<system>short<user>question"),
        ("{% if m.role == 'system' %}S{% else %}U{% endif %}", "SshortUquestion"),
        ("{% if m.role == 'developer' %}D{% else %}U{% endif %}", "DshortUquestion"),
        ("{% if m.role in ('system', 'developer') %}{{ m.role }}{% endif %}", "developershortquestion"),
    ],
)
def test_developer(template: str, right: str) -> None:
    messages = [{"role": "developer", "content": "short"}, user()]
    assert render(start + template + "{{ m.content }}" + end, messages) == right


@pytest.mark.parametrize("role", ["users", "User", "model", "", "system "])
def test_unknown_roles(role: str) -> None:
    template = start + "<{{ m.role }}>{% if m.role == 'critic' %}!{% endif %}{{ m.content }}" + end
    with pytest.raises(
        InvalidRequestError,
        match=rf'"messages\[1\].role" of the request is "{role}", .*: assistant, critic, developer, .*, user',
    ):
        render(template, [user(), {"role": role, "content": "a"}])
    assert render(template, [user(), {"role": "critic", "content": "a"}]) == "<user>question<critic>!a"


# ------------------------------------------------------------------------------- what is left out


long = "a text of more than a few words"


@pytest.mark.parametrize("content", ["q", long, [text(long), text("q")], " \n" + long])
@pytest.mark.parametrize("role", ["system", "user", "developer"])
def test_omitted_texts(content: Any, role: str) -> None:
    """A template that omits the text of a user, or of an instruction, is an error."""
    template = "q q {% for m in messages if m.role == 'assistant' %}{{ m.content }} q{% endfor %}"
    messages = [{"role": "assistant", "content": "a"}, {"role": role, "content": content}]
    with pytest.raises(NotSupportedError, match=rf'"messages\[1\]" of the request \(role "{role}"\)'):
        render(template, messages)


@pytest.mark.parametrize(
    ("template", "right"),
    [
        (start + "{{ m.content | trim }}" + end, long + "q"),
        (start + "{{ m.content | upper }}" + end, long.upper() + " Q"),
        ("{% for m in messages | reverse %}{{ m.content }}" + end, " q" + long),
        (start + "{{ m.content.replace('e', '') }}" + end, long.replace("e", "") + " q"),
        (start + "{{ m.content | tojson }}" + end, json.dumps(long) + '" q"'),
        # These intentionally show nothing.
        ("{% if messages[0].content is none %}yes{% else %}no{% endif %}", "no"),
        ("{{ messages | length }}", "2"),
    ],
)
def test_changed(template: str, right: str) -> None:
    """A template may trim, change, and move texts."""
    assert render(template, [user(long), user(" q")]) == right


def test_an_answer_may_be_omitted() -> None:
    template = start + "{% if m.role == 'user' or loop.last %}{{ m.content }};{% endif %}" + end
    messages = [user(), {"role": "assistant", "content": "what I said"}, user("next"), user("")]
    assert render(template, messages) == "question;next;;"


# ------------------------------------------------------------------------------------ other keys


def test_unknown_settings(caplog: pytest.LogCaptureFixture) -> None:
    """A setting that the template does not know, and that affects only reasoning, is logged once."""
    templates = renderer({"default": strings_only}, {})
    for _ in range(3):
        for extra in (
            {"reasoning_effort": "low"},
            {"verbosity": "high"},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ):
            assert templates.render({"messages": [user()], **extra}) == "[question]"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.name for record in warnings] == ["dynamo_llm.template"] * 3
    for key, record in zip(("reasoning_effort", "verbosity", "enable_thinking"), warnings, strict=True):
        assert f'"{key}"' in record.message
    shown = "{{ reasoning_effort }}{{ verbosity }}{{ enable_thinking }}"
    caplog.clear()
    assert (
        render(shown, [user()], reasoning_effort="low", chat_template_kwargs={"enable_thinking": 0}) == "low0"
    )
    assert not caplog.records


def test_omitted_calls_and_tools(caplog: pytest.LogCaptureFixture) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    render(strings_only, called(content=None))
    assert 'does not write "tool_calls"' in caplog.text
    hidden = "{% if tools and messages[0].role == 'system' %}{{ tools | tojson }}{% endif %}" + strings_only
    assert render(hidden, [user()], tools=[tool]) == "[question]"
    assert 'leaves "tools" of a request out' in caplog.text


def test_generation_prompt() -> None:
    """The request sets it, or ``chat_template_kwargs``."""
    template = start + "{{ m.content }}" + end + "{% if add_generation_prompt %}>{% endif %}"
    no, yes = {"add_generation_prompt": False}, {"add_generation_prompt": True}
    assert render(template, [user()]) == "question>"
    assert render(template, [user()], **no) == "question"
    assert render(template, [user()], chat_template_kwargs=no) == "question"
    assert render(template, [user()], chat_template_kwargs=yes, **yes) == "question>"
    open_ended = {"continue_final_message": True}
    assert render(template, [user("q")], chat_template_kwargs=open_ended) == "q"
    with pytest.raises(InvalidRequestError, match="contradict each other"):
        render(template, [user()], chat_template_kwargs=no, **yes)
    with pytest.raises(InvalidRequestError, match="exclude each other"):
        render(template, [user()], chat_template_kwargs={**open_ended, **yes})
    for own in ("messages", "chat_template"):
        with pytest.raises(InvalidRequestError, match=f'"chat_template_kwargs.{own}"'):
            render(template, [user()], chat_template_kwargs={own: "x"})


@pytest.mark.parametrize("template", [parts_only, both, strings_only])
def test_continued(template: str) -> None:
    for content in ("So I", [text("So I")]):
        messages = [user(), {"role": "assistant", "content": content}]
        assert render(template, messages, continue_final_message=True).endswith("So I")


def test_long_conversation() -> None:
    """All texts are searched for in one pass through the prompt."""
    messages = [user(f"question number {n} of many") for n in range(3000)]
    assert render(strings_only, messages).count("[question number") == 3000
    skips = start + "{% if loop.index0 != 2000 %}{{ m.content }}{% endif %}" + end
    with pytest.raises(NotSupportedError, match=r'"messages\[2000\]"'):
        render(skips, messages)
