"""What a command does with a program's file, in a split evaluation, where the file is a stand-in's.

Python gets the program's functions from it. Whatever else reads the file, or runs it for what it prints,
would conclude something from a text that is not the program's.
"""

from __future__ import annotations

import os
import re
import shlex

_PYTHON = re.compile(r"(python|pypy)[\d.]*$")
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh")
#: Words of shells, and programs, that take a file's name and do not look into the file.
_NAMES_ONLY = {
    *("echo", "printf", "test", "[", "[[", ":", "true", "false", "export", "local", "declare", "typeset"),
    *("readonly", "set", "shift", "cd", "return", "exit", "for", "case", "select", "source", ".", "eval"),
    *("unset", "basename", "dirname", "readlink", "realpath", "ls", "chmod", "rm", "mkdir"),
}
_ASSIGNMENT = re.compile(r"(\w+)\+?=")
_READS_A_VARIABLE = re.compile(r"""(?<!<)<(?![<(&])\s*"?\$\{?(\w+|[@*])""")
_FUNCTION = re.compile(r"(?m)^\s*(?:function\s+([\w:-]+)|([\w:-]+)\s*\(\s*\))")
_READS = "the evaluator reads the program's text with {}"
_RUNS = "the evaluator runs the program's file as a script, and its functions alone can be called apart"


def complaint(words, names, functions=()):
    """Why a command cannot be split; empty where nothing speaks against it.

    :param words: the command and its arguments.
    :param names: what the program's file is called.
    :param functions: of a shell script, whose own commands are looked at.
    """
    at = next((index for index, word in enumerate(words) if _is_named(word, names)), None)
    if at is None:
        return ""
    before = [os.path.basename(word) for word in words[:at]]
    if before and before[0] in _SHELLS and "-c" in before:
        return shell_complaint(words[at], names)
    python = next((index for index, word in enumerate(before) if _PYTHON.match(word)), None)
    if python is not None:
        return _RUNS if all(word.startswith("-") for word in before[python + 1 :]) else ""
    command = next((word for word in before if not _ASSIGNMENT.match(word)), "")
    if command in _NAMES_ONLY or command in functions:
        return ""
    if command:
        return _READS.format(command)
    return "" if _ASSIGNMENT.match(words[at]) else _RUNS


def shell_complaint(text, names):
    """Why a line for a shell cannot be split; empty where nothing speaks against it."""
    lexer = shlex.shlex(text.replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:
        return _READS.format("a shell")
    commands = [[]]
    for token in tokens:
        if set(token) <= set(";|&()"):
            commands.append([])
        else:
            commands[-1].append(token)
    for command in commands:
        for place, word in enumerate(command[1:], 1):
            if command[place - 1] == "<" and _is_named(word, names):
                return _READS.format(command[0])
        found = complaint(command, names)
        if found:
            return found
    return ""


def trace_complaint(trace, script, names):
    """Why a shell script cannot be split, by what bash told of its commands; empty where nothing says so.

    :param trace: what ``bash -x`` wrote: each command with its words as they came out, but no redirections.
    :param script: its text.
    """
    functions = {name for found in _FUNCTION.findall(script) for name in found if name}
    variables = {"1", "@", "*"}
    for told in re.split(r"(?m)^\++ ", trace):
        try:
            words = shlex.split(told)
        except ValueError:
            words = told.split()
        found = complaint(words, names, functions)
        if found:
            return found
        variables.update(
            match[1] for match in map(_ASSIGNMENT.match, words) if match and _is_named(match.string, names)
        )
    read = variables.intersection(_READS_A_VARIABLE.findall(script))
    return _READS.format("<") if read else ""


def _is_named(word, names):
    return any(name in word for name in names)
