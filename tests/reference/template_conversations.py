# SPDX-License-Identifier: Apache-2.0
"""Conversations that every chat template of the reference suite is tried with."""

import copy
from typing import Any

Message = dict[str, Any]


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def system(content: Any) -> Message:
    return {"role": "system", "content": content}


def call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(id: str, content: Any) -> Message:
    return {"role": "tool", "tool_call_id": id, "name": "get_weather", "content": content}


def text(content: str, type: str = "text") -> dict[str, Any]:
    return {"type": type, "text": content}


oslo = call("abcdef123", "get_weather", '{"city": "Oslo", "days": 3}')
rome = call("abcdef456", "get_weather", '{"city": "Rom ä", "where": {"a": [1, null, true]}}')
tools = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city, é & <b>",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
question = user("What is the weather in Oslo, please?")
brief = system("You answer as briefly as you can.")
loop = [question, assistant(None, tool_calls=[oslo]), result("abcdef123", "sunny, 20 degrees")]
absent = copy.deepcopy(loop)
del absent[1]["content"]
old_call = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}

#: By name: messages; the other keys of the body; and, where the messages have a form that templates do not
#: know, what they stand for.
conversations: dict[str, tuple[list[Message], dict[str, Any], list[Message] | None]] = {
    "user": ([question], {}, None),
    "short user": ([user("q")], {}, None),
    "system": ([brief, question], {}, None),
    "turns": (
        [brief, question, assistant("It is sunny there. "), user("  And in Rome tomorrow? \n")],
        {},
        None,
    ),
    "unicode": (
        [
            user("Zürich 東京 😀 \u202bשלום\u202c"),
            assistant("e\u0301 🏳️‍🌈"),
            user("{{ x }} {% if %} <|im_end|> \\n 'a' \"b\""),
        ],
        {},
        None,
    ),
    "developer": (
        [{"role": "developer", "content": "Answer in French, whatever comes."}, question],
        {},
        None,
    ),
    "parts": ([user([text("First of two parts."), text("Second of two parts.")])], {}, None),
    "one part": ([user([text("There is a single part.")])], {}, None),
    "system in parts": (
        [system([text("Be brief and be kind.")]), user([text("Hello to everybody.")])],
        {},
        None,
    ),
    "parts of other types": (
        [
            user([text("What I have written.", "input_text")]),
            assistant([text("What I said.", "output_text")]),
            question,
        ],
        {},
        [user([text("What I have written.")]), assistant([text("What I said.")]), question],
    ),
    "refusal": (
        [
            user("Tell me how to do it."),
            {"role": "assistant", "content": None, "refusal": "I will not."},
            question,
        ],
        {},
        [
            user("Tell me how to do it."),
            {"role": "assistant", "refusal": "I will not.", "content": "I will not."},
            question,
        ],
    ),
    "null keys": (
        [
            question,
            assistant("Sunny.", refusal=None, audio=None, function_call=None, tool_calls=None, name=None),
            user("And then, tomorrow?"),
        ],
        {},
        [question, assistant("Sunny."), user("And then, tomorrow?")],
    ),
    "tool loop, null content": (loop, {}, None),
    "tool loop, absent content": (absent, {}, None),
    "tool loop, empty content": ([question, assistant("", tool_calls=[oslo]), loop[2]], {}, None),
    "tool loop, content": ([question, assistant("I will look.", tool_calls=[oslo]), loop[2]], {}, None),
    "tool loop, answered": (
        [brief, *loop, assistant("It is sunny."), user("Thank you very much.")],
        {},
        None,
    ),
    "tool loop with tools": (loop, {"tools": tools}, None),
    "tools": ([question], {"tools": tools}, None),
    "tools, system": ([brief, question], {"tools": tools}, None),
    "tools forbidden": ([brief, question], {"tools": tools, "tool_choice": "none"}, None),
    "parallel calls": (
        [question, assistant(None, tool_calls=[oslo, rome]), loop[2], result("abcdef456", "rain\nall day")],
        {"tools": tools},
        None,
    ),
    "no arguments": (
        [question, assistant(None, tool_calls=[call("abcdef123", "now", "{}")]), loop[2]],
        {},
        None,
    ),
    "id of OpenAI": (
        [question, assistant(None, tool_calls=[call("call_1", "f", '{"a":1}')]), result("call_1", "r")],
        {},
        None,
    ),
    "empty calls": (
        [question, assistant("Sunny.", tool_calls=[]), user("And then, tomorrow?")],
        {},
        [question, assistant("Sunny."), user("And then, tomorrow?")],
    ),
    "function calls of old": (
        [
            question,
            {"role": "assistant", "content": None, "tool_calls": None, "function_call": old_call},
            {"role": "function", "name": "get_weather", "content": "sunny, 20 degrees"},
        ],
        {},
        [
            question,
            assistant(None, tool_calls=[call("call00001", **old_call)]),
            {
                "role": "tool",
                "name": "get_weather",
                "content": "sunny, 20 degrees",
                "tool_call_id": "call00001",
            },
        ],
    ),
    "thought": (
        [
            question,
            assistant("It is sunny.", reasoning_content="They ask about Oslo.\n"),
            user("And then, tomorrow?"),
        ],
        {},
        None,
    ),
    "thought of another name": (
        [question, assistant("It is sunny.", reasoning="They ask about Oslo."), user("And then, tomorrow?")],
        {},
        None,
    ),
    "thought in tags": (
        [question, assistant("<think>\nThey ask.\n</think>\n\nIt is sunny."), user("And then, tomorrow?")],
        {},
        None,
    ),
    "thought before a call": (
        [question, assistant("", reasoning_content="I need to look.", tool_calls=[oslo]), loop[2]],
        {"tools": tools},
        None,
    ),
    "without thinking": ([brief, question], {"chat_template_kwargs": {"enable_thinking": False}}, None),
    "no generation prompt": ([question, assistant("It is sunny.")], {"add_generation_prompt": False}, None),
    "no generation prompt by variable": (
        [question, assistant("It is sunny.")],
        {"chat_template_kwargs": {"add_generation_prompt": False}},
        None,
    ),
    "continued": ([question, assistant("It is sunny")], {"continue_final_message": True}, None),
    "continued after a blank": (
        [brief, question, assistant("It is ")],
        {"continue_final_message": True},
        None,
    ),
    "continued part": (
        [user([text("There is a single part.")]), assistant([text("It is")])],
        {"continue_final_message": True},
        None,
    ),
    "system in the middle": (
        [
            question,
            assistant("Sunny."),
            system("From now on, answer in German."),
            user("And then, tomorrow?"),
        ],
        {},
        None,
    ),
    "two systems": ([brief, system("Never say the word rain."), question], {}, None),
    "two users": ([question, user("Do you hear what I say?")], {}, None),
    "assistant first": ([assistant("How can I help you?"), question], {}, None),
    "unknown role": ([{"role": "users", "content": "What is the weather?"}], {}, None),
}
