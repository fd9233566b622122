# SPDX-License-Identifier: Apache-2.0
"""Determines, from a chat template's syntax tree, what the template reads of the messages."""

import dataclasses
from collections.abc import Iterable
from functools import reduce

from jinja2 import nodes
from jinja2.visitor import NodeVisitor

#: What an expression may represent: "messages", "message", "first" (the first message), "contents" (of
#: several messages), "content", "opening" (content of the first message), "part", "role", "calls", "call",
#: "functions", "function", "argument list" (arguments of several calls), "arguments", "text" (made from a
#: content), and string constants, which begin with "=".
Kinds = frozenset[str]

_none: Kinds = frozenset()
_text: Kinds = frozenset({"text"})
_role: Kinds = frozenset({"role"})
#: Kinds whose texts are written if the expression is output.
_written = frozenset({"contents", "content", "opening", "text", "part", "message", "first", "messages"})
_contents = frozenset({"content", "opening"})
_messages = frozenset({"message", "first"})
#: Kinds whose JSON contains arguments.
_with_arguments = frozenset(
    {"arguments", "argument list", "function", "functions", "call", "calls", "message", "first", "messages"}
)
_elements = {
    "messages": "message",
    "contents": "content",
    "content": "part",
    "opening": "part",
    "calls": "call",
    "functions": "function",
    "argument list": "arguments",
}
_lists = {element: several for several, element in _elements.items() if several != "opening"}
_lists.update(first="messages", opening="contents")
#: Lists that can be extended by ``+``.
_growing = frozenset({"messages", "contents", "calls", "functions", "argument list"})
#: Kinds that are mappings, and what their keys represent.
_keys = {
    "message": {"content": "content", "role": "role", "tool_calls": "calls", "function_call": "function"},
    "first": {"content": "opening", "role": "role", "tool_calls": "calls", "function_call": "function"},
    "call": {"function": "function", "arguments": "arguments"},
    "function": {"arguments": "arguments"},
    "part": {"text": "text", "content": "text"},
}
_selecting = frozenset({"selectattr", "rejectattr", "select", "reject"})
_keeping = frozenset({"list", "reverse", "sort", "unique", "slice", "batch"})
_counting = frozenset({"length", "count", "abs", "int", "float"})
_string_methods = frozenset(name for name in dir(str) if not name.startswith("_"))
#: Real templates need fewer passes. More passes would only follow longer chains of names.
_most_passes = 8
#: Maximum number of string constants that a name may represent. Templates are untrusted: chains of lists must
#: not accumulate constants.
_most_constants = 256
#: Maximum number of macros with the same name whose calls are followed.
_most_macros = 8


@dataclasses.dataclass
class Traits:
    """What a template reads of the messages."""

    reads_text: bool = False
    """A content is written, concatenated, or changed as a string."""
    reads_parts: bool = False
    """A content is iterated over, or indexed, as a list of parts."""
    tests_type: bool = False
    """A content is tested for being a string, a list, or a mapping."""
    tests_null: bool = False
    """A content is compared with none."""
    tests_presence: bool = False
    """A content is tested for being defined."""
    writes_content: bool = False
    """Part of a content is written into the prompt."""
    reads_calls: bool = False
    """The tool calls of a message are read."""
    arguments_as_object: bool = False
    """Arguments of a tool call are read as a mapping."""
    arguments_as_json: bool = False
    """Arguments of a tool call are encoded as JSON."""
    tests_arguments: bool = False
    """Arguments of a tool call are tested for being a string."""
    roles: set[str] = dataclasses.field(default_factory=set)
    """Roles that the template names."""
    keys: set[str] = dataclasses.field(default_factory=set)
    """Keys of messages that the template names."""

    @property
    def needs_object(self) -> bool:
        """Whether arguments of tool calls must be objects; otherwise the string in the message suffices."""
        return self.arguments_as_object or (self.arguments_as_json and not self.tests_arguments)


def traits(tree: nodes.Template) -> Traits:
    """Returns what a template reads, as far as its syntax shows.

    Names are followed through ``set``, loops, namespaces, and macros, regardless of order. The time is
    bounded by the size of the tree.

    :raises RecursionError: the tree is nested too deeply; Jinja cannot compile such a template either.
    """
    return _Walk(tree).traits


class _Scope:
    def __init__(self, outer: "_Scope | None") -> None:
        self.outer = outer
        self.kinds: dict[str, Kinds] = {}
        #: Names that hide those of outer scopes: loop variables and parameters of macros.
        self.bound: set[str] = set()


class _Walk(NodeVisitor):
    def __init__(self, tree: nodes.Template) -> None:
        self.traits = Traits()
        self._root = _Scope(None)
        self._root.kinds["messages"] = frozenset({"messages"})
        self._scopes: dict[int, _Scope] = {}
        self._macros: dict[str, list[tuple[nodes.Macro, _Scope]]] = {}
        self._scope = self._root
        for _ in range(_most_passes):
            self._has_grown = False
            for node in tree.body:
                self.visit(node)
            if not self._has_grown:
                break

    # ------------------------------------------------------------------------------------- names

    def _bind(self, scope: _Scope, name: str, kinds: Kinds) -> None:
        old = scope.kinds.get(name, _none)
        new = old | kinds
        if len(new) > _most_constants:
            return
        if new != old or name not in scope.kinds:
            scope.kinds[name] = new
            self._has_grown = True

    def _lookup(self, name: str) -> Kinds:
        found = _none
        scope: _Scope | None = self._scope
        while scope is not None:
            found |= scope.kinds.get(name, _none)
            if name in scope.bound:
                break
            scope = scope.outer
        return found

    def _inner(self, node: nodes.Node) -> _Scope:
        return self._scopes.setdefault(id(node), _Scope(self._scope))

    def _assign(self, target: nodes.Node, kinds: Kinds) -> None:
        if isinstance(target, nodes.Name):
            self._bind(self._scope, target.name, kinds)
        elif isinstance(target, nodes.NSRef):
            self._bind(self._root, f"{target.name}.{target.attr}", kinds)
        elif isinstance(target, nodes.Tuple | nodes.List):
            for item in target.items:
                self._assign(item, kinds)

    # -------------------------------------------------------------------------------- statements

    def _in_scope(self, scope: _Scope, body: Iterable[nodes.Node]) -> None:
        outer, self._scope = self._scope, scope
        try:
            for node in body:
                self.visit(node)
        finally:
            self._scope = outer

    def visit_Output(self, node: nodes.Output) -> None:
        for child in node.nodes:
            if not isinstance(child, nodes.TemplateData):
                kinds = self._kinds(child)
                self.traits.writes_content |= not kinds.isdisjoint(_written)
                self._as_string(kinds)

    def visit_Assign(self, node: nodes.Assign) -> None:
        value = node.node
        if _is_namespace(value) and isinstance(node.target, nodes.Name):
            for field in value.find_all(nodes.Keyword):
                self._bind(self._root, f"{node.target.name}.{field.key}", self._kinds(field.value))
        if isinstance(value, nodes.Tuple) and isinstance(node.target, nodes.Tuple):
            for target, item in zip(node.target.items, value.items, strict=False):
                self._assign(target, self._kinds(item))
        else:
            self._assign(node.target, self._kinds(value))

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> None:
        self._in_scope(self._inner(node), node.body)
        self._assign(node.target, _text if self.traits.writes_content else _none)

    def visit_For(self, node: nodes.For) -> None:
        kinds = self._kinds(node.iter)
        self.traits.reads_parts |= not kinds.isdisjoint(_contents)
        self._as_mapping(kinds)
        scope = self._inner(node)
        item = _element(kinds)
        outer, self._scope = self._scope, scope
        self._assign(node.target, item)
        scope.bound.update(scope.kinds.keys() if not scope.bound else ())
        for name in ("loop.previtem", "loop.nextitem"):
            self._bind(scope, name, item)
        self._scope = outer
        self._in_scope(scope, [*([node.test] if node.test else []), *node.body])
        for child in node.else_:
            self.visit(child)

    def visit_Macro(self, node: nodes.Macro) -> None:
        scope = self._inner(node)
        known = self._macros.setdefault(node.name, [])
        if len(known) < _most_macros and not any(macro is node for macro, _ in known):
            known.append((node, scope))
            scope.bound.update(argument.name for argument in node.args)
            self._has_grown = True
        for argument, default in zip(reversed(node.args), reversed(node.defaults), strict=False):
            self._bind(scope, argument.name, self._kinds(default))
        self._in_scope(scope, node.body)

    def visit_With(self, node: nodes.With) -> None:
        scope = self._inner(node)
        values = [self._kinds(value) for value in node.values]
        outer, self._scope = self._scope, scope
        for target, kinds in zip(node.targets, values, strict=False):
            self._assign(target, kinds)
        self._scope = outer
        self._in_scope(scope, node.body)

    # ------------------------------------------------------------------------------- expressions

    def _kinds(self, node: nodes.Node) -> Kinds:
        """Returns what an expression may represent, and records its use of the messages."""
        found: Kinds | None = self.visit(node)
        return _none if found is None else found

    def visit_Const(self, node: nodes.Const) -> Kinds:
        return frozenset({"=" + node.value}) if isinstance(node.value, str) else _none

    def visit_Name(self, node: nodes.Name) -> Kinds:
        return self._lookup(node.name)

    def visit_List(self, node: nodes.List | nodes.Tuple) -> Kinds:
        return _none.union(*(_listed(self._kinds(item)) for item in node.items))

    visit_Tuple = visit_List

    def visit_Dict(self, node: nodes.Dict) -> Kinds:
        keys = _none.union(*(self._kinds(pair.key) for pair in node.items))
        values = _none.union(*(self._kinds(pair.value) for pair in node.items))
        return keys | _made_of(values) | ({"message"} if "=role" in keys else _none)

    def visit_And(self, node: nodes.And | nodes.Or) -> Kinds:
        return self._kinds(node.left) | self._kinds(node.right)

    visit_Or = visit_And

    def visit_CondExpr(self, node: nodes.CondExpr) -> Kinds:
        self._kinds(node.test)
        return self._kinds(node.expr1) | (self._kinds(node.expr2) if node.expr2 else _none)

    def visit_Add(self, node: nodes.Add | nodes.Concat) -> Kinds:
        found = _none.union(*map(self._kinds, node.iter_child_nodes()))
        return self._as_string(found) if found.isdisjoint(_growing) else found

    visit_Concat = visit_Add

    def _as_string(self, kinds: Kinds) -> Kinds:
        """Records that an expression is used as a string. Returns the kinds of that string."""
        self.traits.reads_text |= not kinds.isdisjoint(_contents | {"contents"})
        return _text if kinds & _written else _none

    def _as_mapping(self, kinds: Kinds) -> None:
        """Records that an expression is used as a mapping."""
        self.traits.arguments_as_object |= "arguments" in kinds

    def _attribute(self, kinds: Kinds, key: str) -> Kinds:
        if kinds & _messages:
            self.traits.keys.add(key)
        self.traits.reads_parts |= "part" in kinds
        self._as_mapping(kinds)
        found = frozenset(_keys[kind][key] for kind in kinds if key in _keys.get(kind, ()))
        self.traits.reads_calls |= "calls" in found
        return found

    def _attributes(self, kinds: Kinds, keys: Kinds) -> Kinds:
        """Looks up each constant among ``keys`` as the name of an attribute."""
        return _none.union(*(self._attribute(kinds, key) for key in _constants(keys)))

    def visit_Getattr(self, node: nodes.Getattr) -> Kinds:
        found = _none
        if isinstance(node.node, nodes.Name):
            found = self._lookup(f"{node.node.name}.{node.attr}")
        return found | self._attribute(self._kinds(node.node), node.attr)

    def visit_Getitem(self, node: nodes.Getitem) -> Kinds:
        kinds = self._kinds(node.node)
        if isinstance(node.arg, nodes.Slice):
            self._kinds(node.arg)
            return kinds
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return self._attribute(kinds, node.arg.value)
        argument = self._kinds(node.arg)
        if "role" in argument:
            self._name_roles(kinds)
        if not isinstance(node.arg, nodes.Const):
            self._as_mapping(kinds)
        if "messages" in kinds and isinstance(node.arg, nodes.Const) and node.arg.value == 0:
            return _element(kinds) - {"message"} | {"first"}
        found = _element(kinds)
        if not kinds.isdisjoint(_keys):  # the key may be a name that represents constants
            found |= self._attributes(kinds, argument)
        return found

    def _name_roles(self, kinds: Kinds) -> None:
        for role in _constants(kinds):  # the template may compare the role in upper case
            self.traits.roles.update((role, role.lower()))

    def visit_Compare(self, node: nodes.Compare) -> Kinds:
        left = self._kinds(node.expr)
        for operand in node.ops:
            right = self._kinds(operand.expr)
            both = left | right
            if "role" in both:
                self._name_roles(both)
            if "content" in both and any(_is_none(side) for side in (node.expr, operand.expr)):
                self.traits.tests_null = True
            if operand.op in ("in", "notin") and right & _messages:
                self.traits.keys.update(_constants(left))
                self.traits.tests_presence |= "=content" in left
        return _none

    def visit_Test(self, node: nodes.Test) -> Kinds:
        kinds = self._kinds(node.node)
        arguments = [*node.args] if node.args else []
        values = _none.union(*map(self._kinds, arguments))
        # A test whether the first message has a content, or whether a name is set, does not show how the
        # template handles tool calls without a text.
        if "content" in kinds and (node.name == "none" or any(map(_is_none, arguments))):
            self.traits.tests_null = True
        is_name = isinstance(node.node, nodes.Name)
        if "content" in kinds and node.name in ("defined", "undefined") and not is_name:
            self.traits.tests_presence = True
        if node.name in ("string", "mapping", "iterable", "sequence"):
            self.traits.tests_type |= not kinds.isdisjoint(_contents)
            if node.name == "string":
                self.traits.tests_arguments |= "arguments" in kinds
            else:
                self._as_mapping(kinds)
        if "role" in kinds:
            self._name_roles(values)
        return _none

    def visit_Filter(self, node: nodes.Filter) -> Kinds:
        kinds = self._kinds(node.node) if node.node is not None else _none
        arguments = [self._kinds(argument) for argument in node.args or ()]
        named = {str(item.key): self._kinds(item.value) for item in node.kwargs or ()}
        if node.name in _selecting:
            self.traits.reads_parts |= not kinds.isdisjoint(_contents)
            if "messages" in kinds and len(arguments) > 2 and "=role" in arguments[0]:
                self._name_roles(arguments[2])
            if "messages" in kinds and len(arguments) > 1 and "=content" in arguments[0]:
                self.traits.tests_null |= "=none" in arguments[1]
                self.traits.tests_presence |= not arguments[1].isdisjoint(("=defined", "=undefined"))
            return kinds
        if node.name in _keeping:
            return kinds
        if node.name in ("first", "last", "random"):
            return _element(kinds)
        if node.name == "attr":
            return self._mapped(arguments[0] if arguments else _none, kinds)
        if node.name == "map":
            items = _element(kinds)
            if "attribute" in named:
                return _listed(self._mapped(named["attribute"], items))
            filters = arguments[0] if arguments else _none
            return self._as_json(items) if "=tojson" in filters else self._as_string(items)
        if node.name in ("items", "dictsort"):
            self._as_mapping(kinds)
            return _none
        if node.name in ("default", "d"):
            return kinds.union(*arguments, *named.values())
        if node.name in _counting:
            return _none
        if node.name == "tojson":
            return self._as_json(kinds)
        return self._as_string(kinds.union(*arguments)) | (kinds & _role)

    def _as_json(self, kinds: Kinds) -> Kinds:
        """Records that an expression is encoded as JSON. Returns the kinds of that JSON."""
        self.traits.arguments_as_json |= not kinds.isdisjoint(_with_arguments)
        return _text if kinds & _written else _none

    def _mapped(self, keys: Kinds, of: Kinds) -> Kinds:
        """Returns what attributes of a name with dots represent."""
        return _none.union(*(reduce(self._attribute, key.split("."), of) for key in _constants(keys)))

    def visit_Call(self, node: nodes.Call) -> Kinds:
        arguments = [self._kinds(argument) for argument in node.args]
        named = {item.key: self._kinds(item.value) for item in node.kwargs}
        for extra in (node.dyn_args, node.dyn_kwargs):
            if extra is not None:
                self._kinds(extra)
        callee = node.node
        if isinstance(callee, nodes.Getattr):
            return self._method(callee, _none.union(*arguments, *named.values()))
        if isinstance(callee, nodes.Name):
            for macro, scope in self._macros.get(callee.name, ()):
                for parameter, kinds in zip(macro.args, arguments, strict=False):
                    self._bind(scope, parameter.name, kinds)
                for key, kinds in named.items():
                    self._bind(scope, key, kinds)
            if callee.name == "dict":
                return _none.union(*arguments) | _made_of(_none.union(*named.values()))
            return _none
        self._kinds(callee)
        return _none

    def _method(self, callee: nodes.Getattr, given: Kinds) -> Kinds:
        kinds = self._kinds(callee.node)
        name = callee.attr
        if name == "get":
            if "role" in given:
                self._name_roles(kinds)
            return self._attributes(kinds, given)
        if name in ("items", "keys", "values"):
            self._as_mapping(kinds)
            return _none
        if name in _string_methods:
            return self._as_string(kinds | given) | (kinds & _role)
        return self._lookup(f"{callee.node.name}.{name}") if isinstance(callee.node, nodes.Name) else _none


def _constants(kinds: Kinds) -> list[str]:
    """Returns the string constants that an expression may represent."""
    return [kind[1:] for kind in kinds if kind.startswith("=")]


def _element(kinds: Kinds) -> Kinds:
    return frozenset(_elements[kind] for kind in kinds if kind in _elements)


def _listed(kinds: Kinds) -> Kinds:
    return frozenset(_lists.get(kind, kind) for kind in kinds)


def _made_of(values: Kinds) -> Kinds:
    """Returns what a mapping with such values represents."""
    return (_text if values & _written else _none) | ({"function"} if "arguments" in values else _none)


def _is_namespace(node: nodes.Node) -> bool:
    return (
        isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "namespace"
    )


def _is_none(node: nodes.Node) -> bool:
    """Whether a node is none, or a list that contains none."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return any(isinstance(item, nodes.Const) and item.value is None for item in node.items)
    return isinstance(node, nodes.Const) and node.value is None
