# SPDX-License-Identifier: Apache-2.0
"""The documentation: its programs print the documented output, all code is in tested files, and its tables
are current.
"""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import dynamo_llm
import hub_server
import pictures
import pytest
import tiny_models
from conftest import Completed, run, tests_dir
from dynamo_llm.runtime.media.media_part import parts_of

root = tests_dir.parent
docs = root / "docs"
snippets = docs / "snippets"
pages = sorted(docs.rglob("*.md"))
page_names = [str(page.relative_to(docs)) for page in pages]

#: As a user has them: dynamo-llm, python and the compilers on PATH.
path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def shell(script: str, folder: Path, environment: Mapping[str, str] | None = None) -> Completed:
    # PAIRS: enough measurements to show that the benchmark works.
    variables = {"PATH": path, "PAIRS": "20", **(environment or {})}
    return run(["sh", "-e", "-c", script], variables, cwd=folder)


def strict(command: str) -> str:
    """Returns a compile command with warnings as errors."""
    return re.sub(r"^(gcc|g\+\+) ", r"\1 -Wall -Wextra -Werror ", command, flags=re.M)


def compile_and_run(source: Path, command: str, folder: Path) -> Completed:
    """Compiles a program as its first line says, and runs it."""
    shutil.copy(source, folder)
    result = shell(strict(command), folder)
    assert result.returncode == 0, result.stderr
    return run([folder / source.stem])


def check_output(source: Path, result: Completed) -> None:
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert result.stdout == source.with_suffix(".out").read_text(), f"{source.stem}.out says otherwise"


def programs_in(suffix: str) -> list[str]:
    names = [str(file.relative_to(snippets)) for file in snippets.rglob(f"*.{suffix}")]
    assert names
    return sorted(names)


@pytest.mark.many(3)
@pytest.mark.parametrize("name", programs_in("c") + programs_in("cpp"))
def test_compiled(name: str, tmp_path: Path) -> None:
    """A program compiles with the command in its first line, and prints the content of the file beside it."""
    source = snippets / name
    first_line = source.read_text().splitlines()[0]
    command = re.fullmatch(r"(?:/\* |// )((?:gcc|g\+\+) .*?)(?: \*/)?", first_line)
    assert command, f"the first line of {name} must be the command that compiles it"
    check_output(source, compile_and_run(source, command[1], tmp_path))


#: Engines that the programs use_*.py beside them use.
engines = {
    f"python/{name}.py"
    for name in ("shout", "parrot", "patient", "chorus", "filling", "spell", "switch", "gaze")
}


#: Programs that need a model folder, and the function that creates it.
models: dict[str, Callable[[Path], Path]] = {
    "python/embeddings.py": tiny_models.embedder,
    "python/images.py": tiny_models.gemma3,
    "python/rerank.py": tiny_models.embedder,
    "python/use_gaze.py": tiny_models.idefics3,
    "python/vllm_speculative.py": tiny_models.llama,
}


#: Programs that need vLLM, which writes warnings.
of_vllm = {name for name in programs_in("py") if name.startswith("python/vllm_")}

#: Programs that also need files: the test writes them into a folder.
files: dict[str, Callable[[Path], list[Path]]] = {
    "python/images.py": pictures.files,
    "python/use_gaze.py": pictures.files,
    "python/vllm_speculative.py": lambda folder: [tiny_models.llama(folder / "draft", seed=1)],
}


#: Programs that need NVIDIA Dynamo. It writes one line of log, which the library cannot stop.
of_dynamo = {"python/tool_call_parser.py"}
line_of_dynamo = re.compile(r"^.*Selected model parser route.*\n", re.M)

#: Programs that download a model, from a server that the test runs.
downloading = {"python/pull.py", "sh/pull.sh"}


@contextmanager
def environment_of(name: str, folder: Path) -> Iterator[dict[str, str]]:
    """Runs the server that a program needs, and provides the environment that names it."""
    if name not in downloading:
        yield {}
        return
    with hub_server.serving() as hub:
        hub.repositories["org/demo"] = hub_server.Repository(hub_server.demo_files())
        yield hub.environment(folder / "hub")


@pytest.mark.many(2)
@pytest.mark.parametrize("name", [name for name in programs_in("py") if name not in engines])
def test_python(name: str, tmp_path: Path) -> None:
    """A Python program prints the content of the file beside it."""
    if name in of_dynamo and importlib.util.find_spec("dynamo") is None:
        pytest.skip("needs the extra: pip install '.[dynamo]'")
    if name in of_vllm and importlib.util.find_spec("vllm") is None:
        pytest.skip("needs vLLM: pip install '.[vllm]'")
    source = snippets / name
    arguments = [models[name](tmp_path / "model")] if name in models else []
    arguments += files[name](tmp_path) if name in files else []
    with environment_of(name, tmp_path) as environment:
        if name in of_vllm:  # it takes a minute to start on a busy machine, and more with many threads
            result = run([sys.executable, source, *arguments], {"OMP_NUM_THREADS": "1"}, timeout=400)
            result.stderr = ""
        else:
            result = run([sys.executable, "-W", "error", source, *arguments], environment)
    if name in of_dynamo:
        result.stderr = line_of_dynamo.sub("", result.stderr)
    check_output(source, result)


@pytest.mark.many(2)
@pytest.mark.parametrize("name", programs_in("sh"))
def test_shell(name: str, tmp_path: Path) -> None:
    """Shell commands work in a folder with the programs that they use."""
    for folder in (snippets / "c", snippets / "cpp", snippets / "python"):
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy(file, tmp_path)
    (tmp_path / "benchmarks").symlink_to(root / "benchmarks")
    with environment_of(name, tmp_path) as environment:
        result = shell(strict((snippets / name).read_text()), tmp_path, environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    if (snippets / name).with_suffix(".out").exists():
        check_output(snippets / name, result)


# ------------------------------------------------------------------------------------------- pages


#: Directives that lay out other content: tabs, cards, notes.
layout = re.compile(r"^:{3,}(\{(tab-set|tab-item|grid|grid-item-card|note|tip|warning)\}.*)?$", re.M)


def blocks(text: str) -> list[tuple[str, str]]:
    """Returns the fenced blocks: the text after the fence, and the content."""
    return re.findall(r"^ *(?:```|~~~|:::)([^\n`]*)\n(.*?)^ *(?:```|~~~|:::)$", text, re.M | re.S)


def test_blocks_are_their_programs() -> None:
    """The text between the comments ``snippet`` and ``end snippet`` of a page is the current program."""
    result = run([sys.executable, docs / "snippet_blocks.py", "--check"])
    assert result.returncode == 0, result.stderr


def check_is_tested(name: str, file: Path) -> None:
    """Checks that a file that a page shows exists, and that a test runs it."""
    assert file.is_file(), f"{name} shows {file}, which does not exist"
    tested = (snippets, tests_dir / "consumers", root / "examples")
    assert any(file.is_relative_to(folder) for folder in tested), (
        f"{name} shows {file}, which no test runs: it is not below docs/snippets, tests/consumers or examples"
    )


@pytest.mark.parametrize("name", page_names)
def test_code_is_from_files(name: str) -> None:
    """A page has no code of its own: it shows files below snippets/, which other tests run."""
    text = (docs / name).read_text()
    shown = load(docs / "snippet_blocks.py").shown
    for found in shown.finditer(text):
        check_is_tested(name, ((docs / name).parent / found[1]).resolve())
    text = layout.sub("", shown.sub("", text))
    for head, content in blocks(text):
        directive = re.match(r"\{([a-z-]+)\}", head)
        assert directive, f"{name} has code of its own; put it into a file below docs/snippets:\n{content}"
        assert re.fullmatch(r"include|literalinclude|toctree|doxygen[a-z]+|eval-rst", directive[1]), (
            directive[1]
        )
        if directive[1] == "literalinclude":
            check_is_tested(name, ((docs / name).parent / head.partition("}")[2].strip()).resolve())
        if directive[1] == "eval-rst":
            assert not re.search(r"code|literal|parsed|::$", content, re.M), f"{name}: use literalinclude"
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    indented = re.search(r"(?<=\n\n)(?:    |\t)[^ *\d-].*", outside)
    assert not indented, f"{name} has indented code of its own: {indented[0] if indented else ''}"


def test_all_snippets_are_shown() -> None:
    """A page shows each file below snippets/."""
    shown = "\n".join(page.read_text() for page in pages)
    hidden = [
        str(file.relative_to(docs))
        for file in snippets.rglob("*.*")
        if file.suffix != ".pyc" and str(file.relative_to(docs)) not in shown
    ]
    # Outputs that add nothing are compared, but not shown.
    assert [name for name in hidden if not name.endswith(".out")] == []


def configurations() -> list[tuple[str, str]]:
    """Returns inline JSON of the pages and the README, and where it is."""
    return [
        (file.name, span)
        for file in [*pages, root / "README.md"]
        for span in re.findall(
            r"`(\{.*?\}|\"[a-z_]+\": [^`]*)`", re.sub(r"```.*?```", "", file.read_text(), flags=re.S)
        )
    ]


@pytest.mark.parametrize(("page", "text"), configurations())
def test_configuration(page: str, text: str) -> None:
    """Inline JSON is a configuration, part of one, an entry of a script, a key of a request, or an image."""
    text = text if text.startswith("{") else "{" + text + "}"
    value = json.loads(text.replace("{...}", "{}").replace("[...]", "[]"))
    if (value.keys() <= {"stream"} and value.get("stream") in (True, False)) or value.keys() <= {"nvext"}:
        dynamo_llm.Runtime(engine="echo").request({"prompt": "", **value}).result()
    elif "type" in value:
        assert list(parts_of([{"role": "user", "content": [value]}]))
    elif value.keys() <= {"when_full", "capacity"}:
        dynamo_llm.Runtime(engine="echo", stream=value)
    elif not value.keys() <= dynamo_llm.config_schema()["properties"].keys():
        dynamo_llm.Runtime(engine="scripted", options={"script": [value]})
    else:
        if value.keys() == {"options"}:
            value["engine"] = "scripted"
        if value.get("engine") == "openai":
            value["options"]["check_server"] = False  # it is an example, too
        if str(value.get("model")).startswith("hf:"):
            value["offline"] = True
        if "executable" in value.get("python", {}):
            value.setdefault("engine", "echo")  # a program in Python may not choose another Python
        try:
            dynamo_llm.Runtime(value).close()
        except dynamo_llm.InvalidConfigError:
            raise
        except dynamo_llm.DynamoError as error:  # its names are examples; its keys and types are right
            assert error.status_name in (
                "DYNAMO_ERROR_MODEL_NOT_FOUND",
                "DYNAMO_ERROR_ENGINE_NOT_FOUND",
                "DYNAMO_ERROR_ENGINE_UNAVAILABLE",
                "DYNAMO_ERROR_ENGINE_FAILED" if "start_error" in text else "",
                "DYNAMO_ERROR_UNAVAILABLE" if "cluster" in value else "",
            ), error


@pytest.mark.parametrize("page", ["configuration.md", "errors.md", "threads.md"])
def test_tables(page: str) -> None:
    """Tables that are generated from the code are up to date."""
    tables = load(docs / "tables.py")
    text = (docs / page).read_text()
    assert text == tables.written(page, text), "run: python docs/tables.py"


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------ headers


def test_functions_document_waits_and_failures() -> None:
    """A comment documents how long a call waits, and how it fails."""
    tables = load(docs / "tables.py")
    functions = list(tables.functions())
    assert len(functions) > 80
    faults = []
    for function in functions:
        if "timeout_ms" in function.parameters and not function.waits:
            faults.append(f'{function.name} has a timeout; say "Blocking: ..."')
        if function.result != "void" and not re.search(
            r"@return|Never fails|NULL only|DYNAMO_|INVALID_|status", function.comment, re.I
        ):
            faults.append(f'{function.name} may fail; say how: "@return ..." or "Never fails."')
    assert faults == []


def test_functions_follow_the_rules_of_the_header() -> None:
    """Comments do not repeat the rules at the top of dynamo_llm.h, and state exceptions in known words."""
    tables = load(docs / "tables.py")
    faults = []
    for function in tables.functions():
        stated = function.paragraph("Ownership")
        pointer = "*" in function.result
        if stated.startswith("the caller owns") and (pointer or "**" in function.parameters):
            faults.append(f"{function.name} repeats that the caller owns its result")
        if pointer and function.result.startswith("const ") and function.parameters == "void" and not stated:
            faults.append(f'{function.name} has no object that owns its result; say whose: "Ownership: ..."')
        if function.is_destroy and (function.result != "void" or stated):
            faults.append(f"{function.name} must only release its argument")
        if "static" in stated and not (function.result.startswith("const ") and stated == "static."):
            faults.append(f'{function.name}: write "Ownership: static." if that is what you mean')
        if "Blocking:" in function.comment and not function.waits:
            faults.append(f'{function.name} has an empty paragraph "Blocking"')
        if tables.in_log_callbacks in function.comment and not function.waits:
            faults.append(f"{function.name} does not block, so log callbacks may call it anyway")
        if re.search(r"void \*user\b", function.parameters) and "@param user" not in function.comment:
            faults.append(f"{function.name} keeps `user`; say what for")
        if "Contract:" in function.comment:
            faults.append(f'{function.name} has a line "Contract"; the rules of the header replace it')
    assert faults == []


# ---------------------------------------------------------------------------------------- reference


def names_in_c() -> set[tuple[str, str]]:
    """Returns the groups of the C headers, as doxygen.sed calls them, and what is outside all groups."""
    found: set[tuple[str, str]] = set()
    for header in sorted((root / "include").rglob("*.h")):
        text = header.read_text()
        for name in re.findall(r"^/\*\* @name (\w+)", text, re.M):
            found.add(("group", name.lower()))
        outside = re.sub(r"^/\*\* @\{ \*/$.*?^/\*\* @\} \*/$", "", text, flags=re.M | re.S)
        for name in re.findall(r"^DYNAMO_LLM_API[^;]*?(dynamo_\w+)\(", outside, re.M):
            found.add(("function", name))
        for name in re.findall(r"^typedef .*?(dynamo_\w+);", outside, re.M):
            found.add(("typedef", name))
    return found


def names_in_cpp() -> set[tuple[str, str]]:
    """Returns the public names of the C++ headers: all outside the namespace detail."""
    text = "\n".join(file.read_text() for file in sorted((root / "include").rglob("*.hpp")))
    text = re.sub(r"^namespace detail \{$.*?^\}  // namespace detail$", "", text, flags=re.M | re.S)
    patterns = {
        r"^(class|struct) (?:\[\[nodiscard\]\] )?(\w+)[ <][^;]*$": None,
        r"^using (\w+) =": "typedef",
        r"^inline constexpr .*? (\w+) = ": "variable",
        r"^(?:inline )?Returned<\w+> (\w+)\(": "function",
        r"^#define (DYNAMO_LLM_HAS_\w+)": "define",
    }
    found: set[tuple[str, str]] = set()
    for pattern, kind in patterns.items():
        matches = re.findall(pattern, text, re.M)
        assert matches, f"nothing in the headers looks like {pattern}"
        for match in matches:
            kind_of, name = (kind, match) if kind else match
            found.add((kind_of, name if kind_of == "define" else f"dynamo_llm::{name}"))
    return found


def names_in_python() -> set[tuple[str, str]]:
    """Returns the names that the package exports; the page decides on their kind."""
    return {("", f"dynamo_llm.{name}") for name in dynamo_llm.__all__}


@pytest.mark.parametrize("names", [names_in_c, names_in_cpp, names_in_python])
def test_reference_is_complete(names: Callable[[], set[tuple[str, str]]]) -> None:
    """Each public group, class, and name is on a page of the reference."""
    text = "\n".join(page.read_text() for page in (docs / "reference").glob("*.md"))
    shown = set(
        re.findall(
            r"^```\{doxygen(group|class|struct|typedef|variable|function|define)\} ([\w:]+)", text, re.M
        )
    )
    shown |= {("", name) for name in re.findall(r"^\.\. (?:py:|auto)\w+:: ([\w.]+)", text, re.M)}
    wanted = names()
    assert len(wanted) > 5
    missing = sorted(" ".join(entry).strip() for entry in wanted - shown)
    assert missing == [], f"not on a page of docs/reference: {', '.join(missing)}"


def test_names_in_all_languages() -> None:
    """The tables of names that the pages of the reference begin with have each function of the headers."""
    text = "".join(page.read_text() for page in (docs / "reference").glob("names-*.md"))
    missing = [one.name for one in load(docs / "tables.py").functions() if f"`{one.name}`" not in text]
    assert missing == [], f"in no docs/reference/names-*.md: {', '.join(missing)}"


# ---------------------------------------------------------------------------------------- file names


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_exist(name: str) -> None:
    """A page that says where things are names only existing files."""
    text = (root / name).read_text()
    named = re.findall(r"`((?:cpp|cmake|docs|include|python|scripts|tests)/[\w./-]+)`", text)
    assert len(named) > 20
    assert [path for path in named if "NAME" not in path and not (root / path).exists()] == []


# ------------------------------------------------------------------------------------------- README

readme = (root / "README.md").read_text()

#: Commands of the README that other steps of scripts/test run, or that need something of the user.
run_elsewhere = {
    "pip install .",
    "cmake -B build -G Ninja -DDYNAMO_LLM_PYTHON=OFF "
    "&& cmake --build build && cmake --install build --prefix P",
}


@pytest.mark.parametrize(("language", "content"), blocks(readme))
def test_readme(language: str, content: str, tmp_path: Path) -> None:
    """The README's programs compile, run, and print something; its commands exist."""
    if language in ("c", "cpp"):
        source = tmp_path / f"app.{language}"
        source.write_text(content)
        compiler = {"c": "gcc", "cpp": "g++ -std=c++17"}[language]
        build = tmp_path / "build"
        build.mkdir()
        command = f"{compiler} -o app {source.name} $(dynamo-llm config --cflags --libs)"
        result = compile_and_run(source, command, build)
    elif language == "python":
        (tmp_path / "app.py").write_text(content)
        result = run([sys.executable, tmp_path / "app.py"])
    elif language == "sh":
        for line in content.splitlines():
            words = shlex.split(line, comments=True)
            if not words or " ".join(words) in run_elsewhere:
                continue
            if words[0] in ("gcc", "g++"):
                assert words[-1] == "--libs)", line  # like the commands of the programs above
            elif words[0] == "dynamo-llm":
                help_text = run([sys.executable, "-m", "dynamo_llm", words[1], "--help"]).stdout
                named = [word for word in words if word.startswith("--")]
                assert named and all(option in help_text for option in named), line
            else:
                assert (root / words[0]).is_file(), f"{words[0]} is not in the repository"
        return
    elif language == "json":
        test_configuration("README.md", content)
        return
    else:
        assert language in ("", "text"), f"say how to check {language}"
        return
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(result.stdout.strip()) > 10


def test_readme_links() -> None:
    """Links of the README lead to files."""
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", readme):
        assert (root / target).exists(), target
