"""Finds and runs the examples in README, docs and docstrings: code in Python, and commands that start our programs."""

import argparse
import ast
import doctest
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from itertools import chain, takewhile
from pathlib import Path
from typing import NamedTuple

from tests.test_imports import MODULES


ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "hub/model_card.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
NUMBER = r"-?\d+(?:\.\d+)?"
# The arguments end with the line, a comment or another command.
COMMAND = re.compile(r"\b(?:python|torchrun|accelerate launch)\b[^|&]*? (?:-m ([\w.]+)|(\w+)\.py)( [^|&]*|$)")
MORE = {"…", "..."}  # stand for further arguments


def find_docstrings() -> dict[str, str]:
    """Returns the docstrings of all modules outside of the tests, by module and line."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {
        f"{name}:{getattr(node, 'lineno', 1)}": ast.get_docstring(node) or ""
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    }


def find_texts() -> dict[str, str]:
    """Returns the texts that may hold examples, by page, or by module and line."""
    pages = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
    return pages | {place: text for place, text in find_docstrings().items() if text}


class Checker(doctest.OutputChecker):
    """Compares what an example prints with what it shows: numbers to the digits shown, `…` with anything, spaces alike."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        pattern, shown = "", []
        for part in re.split(rf"(…|\.\.\.|\s+|{NUMBER})", want.strip()):
            if re.fullmatch(NUMBER, part):
                shown.append(part)
                pattern += f"({NUMBER})"
            else:
                pattern += ".*?" if part in MORE else r"\s+" if part.isspace() else re.escape(part)
        found = re.fullmatch(pattern, got.strip(), re.DOTALL)
        return bool(found) and all(
            abs(float(number) - float(wanted)) <= 0.501 * 10.0 ** -len(wanted.partition(".")[2])
            for number, wanted in zip(found.groups(), shown)
        )


def read_block(block: str) -> list[doctest.Example]:
    """
    Reads a block of code, with or without prompts.

    Without prompts, comment lines directly below an expression or an assignment show its value, and a comment behind a call of
    `print` what it prints.
    """
    if ">>> " in block:
        return doctest.DocTestParser().get_examples(block)
    lines, examples = block.splitlines(), []
    for node in ast.parse(block).body:
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        comments = takewhile(lambda line: line.startswith("#"), lines[node.end_lineno :])
        want = "\n".join(line.removeprefix("#").strip() for line in comments)
        if source.startswith("print("):
            want = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip(" #") or want
        examples.append(doctest.Example(source, want if want and isinstance(node, ast.Expr) else "…"))
        if want and isinstance(node, ast.Assign):
            examples.append(doctest.Example(ast.unparse(node.targets[0]), want))
    return examples


def find_examples(text: str) -> list[doctest.Example]:
    """Returns the code of a page or docstring."""
    blocks = [block for _, language, block in FENCE.findall(text) if language == "python"]
    return [example for block in blocks for example in read_block(block)]


def run_examples(place: str, text: str, namespace: dict):
    """Runs the code of a page or docstring in one namespace. Fails with a report if it prints other than it shows."""
    report = []
    runner = doctest.DocTestRunner(checker=Checker(), verbose=False)
    runner.run(doctest.DocTest(find_examples(text), namespace, place, place, 0, text), out=report.append)
    assert not report, "".join(report)


class Command(NamedTuple):
    """A command that starts one of our programs."""

    place: str
    program: str  # its module
    words: list[str]
    is_whole: bool  # a line of code; in a sentence, arguments may be left out


def find_commands(place: str, text: str) -> Iterator[Command]:
    """Yields the commands of a page or docstring. Names such as DATA in “DATA is `…`” are replaced by what they are."""
    text = text.replace("\\\n", " ")
    spans = [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", text))]
    names = dict(re.findall(r"\b([A-Z]{2,})\s+is\s+`([^`]+)`", text))
    lines = [line for _, language, block in FENCE.findall(text) if language != "python" for line in block.splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    ") and "`" not in line]
    for candidates, is_whole in ((lines, True), (spans, False)):
        for found in chain.from_iterable(map(COMMAND.finditer, candidates)):
            program, words = found[1] or found[2], found[3]
            if program in MODULES and "__main__" in ast.unparse(MODULES[program]):
                words = re.sub(r"\b[A-Z]{2,}\b", lambda name: names.get(name[0], name[0]), words)
                words = words.rstrip('"') if words.count('"') % 2 else words
                yield Command(place, program, shlex.split(words, comments=True), is_whole)


class Parsed(BaseException):
    """The arguments are those of the program."""


def parses(program: str, words: list[str], patch) -> bool:
    """Lets a program parse arguments and no more; returns whether they are its own. It prints the error otherwise."""
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def parse(parser, *arguments, **options):
        namespace, unknown = parse_known_args(parser, *arguments, **options)
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        raise Parsed

    with patch.context() as context:
        context.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        context.setattr(sys, "argv", [program, *words])
        try:
            importlib.import_module(program).main()
        except Parsed:
            return True
        except SystemExit as stop:
            return stop.code == 0
    return "--help" in words
