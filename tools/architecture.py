"""The packages of sspl and what imports what, in figures and as a picture.

    python -m tools.architecture [FOLDER]     # of a checkout; this one unless given

prints how many rooms there are (packages and modules directly below sspl), arrows (one imports
another, also inside functions), floors (a room stands above all that it imports), rooms that import
one another in a circle, and lines. For this checkout it also draws docs/images/architecture.svg,
which a test holds to the rooms and arrows there are.
"""

import ast
import html
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import networkx as nx

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs" / "images" / "architecture.svg"
WIDTH: Final = 960
ROOM: Final = (112, 34)
STOREY: Final = 78
EDGE: Final = 30
STYLE: Final = (
    "text{font:14px system-ui,sans-serif;text-anchor:middle;fill:#1a237e}"
    "rect{fill:#e8eaf6;stroke:#3949ab;rx:6}"
    "path{fill:none;stroke:#9fa8da;stroke-width:1;opacity:.45}"
    "path.near{stroke:#283593;stroke-width:1.6;opacity:1}"
)


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of a package by their full names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(nodes: Iterable[ast.AST], known: set[str]) -> set[str]:
    """Return the modules among `known` that these statements import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            base = node.module or ""
            found |= {n if (n := f"{base}.{a.name}") in known else base for a in node.names}
    return found & known


def house(package: Path) -> "nx.DiGraph[str]":
    """Return the rooms of a package, with an arrow to each that a room imports."""
    files = modules(package)
    rooms = {name: name.split(".")[1] for name in files if "." in name}
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(rooms.values())
    for name, room in rooms.items():
        targets = imported(ast.walk(ast.parse(files[name].read_text("utf-8"))), set(files))
        graph.add_edges_from((room, rooms[t]) for t in targets if t in rooms and rooms[t] != room)
    return graph


def floors(graph: "nx.DiGraph[str]") -> list[list[str]]:
    """Return the rooms floor by floor, the ground first; those of a circle share a floor."""
    circles = nx.condensation(graph)
    generations = nx.topological_generations(circles.reverse())
    return [sorted(r for c in g for r in circles.nodes[c]["members"]) for g in generations]


def circles(graph: "nx.DiGraph[str]") -> list[list[str]]:
    """Return the rooms that import one another in a circle, circle by circle."""
    found = nx.strongly_connected_components(graph)
    return sorted(sorted(part) for part in found if len(part) > 1)


def figures(package: Path) -> str:
    """Return what there is to count, in a line, and the floors from the top down."""
    graph, files = house(package), modules(package)
    lines = sum(path.read_text("utf-8").count("\n") for path in files.values())
    storeys, rings = floors(graph), circles(graph)
    loose = sum(path.stem != "__init__" for path in package.glob("*.py"))
    head = (
        f"{len(graph)} rooms ({loose} of them single modules), {graph.number_of_edges()} arrows, "
        f"{len(storeys)} floors, {len(rings)} circles, {len(files)} modules, {lines} lines"
    )
    rows = [f"{i + 1:>3}  {', '.join(storeys[i])}" for i in reversed(range(len(storeys)))]
    return "\n".join([head, *rows, *(f"circle: {', '.join(ring)}" for ring in rings)])


def places(storeys: list[list[str]], graph: "nx.DiGraph[str]") -> dict[str, tuple[float, float]]:
    """Return the middle of each room; each floor stands in the order of what lies below it."""
    found: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(storeys):
        below = {r: [found[t][0] for t in graph[r] if t in found] for r in floor}
        order = sorted(floor, key=lambda r: (sum(below[r]) / max(1, len(below[r])), r))
        y = EDGE + STOREY * (len(storeys) - 1 - number) + ROOM[1] / 2
        # Every other floor is set off, so that arrows pass between rooms.
        shift = (number % 2 - 0.5) * ROOM[0] * 0.6
        for i, room in enumerate(order):
            found[room] = (WIDTH * (i + 0.5) / len(order) + shift, y)
    return found


def straight(graph: "nx.DiGraph[str]") -> set[tuple[str, str]]:
    """Return the arrows that no way round by other rooms already implies."""
    parts = nx.condensation(graph)
    home, near = parts.graph["mapping"], nx.transitive_reduction(parts)
    return {(a, b) for a, b in graph.edges if near.has_edge(home[a], home[b]) or home[a] == home[b]}


def drawn(graph: "nx.DiGraph[str]") -> str:
    """Return the picture as SVG: arrows that others do not already imply are dark."""
    storeys = floors(graph)
    middle = places(storeys, graph)
    near = straight(graph)
    height = 2 * EDGE + STOREY * (len(storeys) - 1) + ROOM[1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="The packages of sspl and their imports">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    for a, b in sorted(graph.edges, key=lambda edge: (edge in near, edge)):
        (x, y), (u, v) = middle[a], middle[b]
        start = y + ROOM[1] / 2
        end = start if y == v else v - ROOM[1] / 2
        # To a room on the same floor an arrow hangs below both.
        hang = STOREY / 2 if y == v else (end - start) / 2
        curve = f"M{x:g} {start:g}C{x:g} {start + hang:g}"
        curve += f" {u:g} {end + hang if y == v else end - hang:g} {u:g} {end:g}"
        kind = ' class="near"' if (a, b) in near else ""
        parts.append(f'<path{kind} d="{curve}"><title>{a} imports {b}</title></path>')
    for room, (x, y) in sorted(middle.items()):
        left, top = x - ROOM[0] / 2, y - ROOM[1] / 2
        parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{ROOM[0]}" height="{ROOM[1]}"/>'
            f'<text x="{x:g}" y="{y + 5:g}">{html.escape(room)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else ROOT
    package = folder / "src" / "sspl"
    print(figures(package))
    if not arguments:
        PICTURE.write_text(drawn(house(package)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
