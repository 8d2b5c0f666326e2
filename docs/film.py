"""Terminal pictures to one SVG that moves: CSS alone, no script, so that it plays as an `<img>`."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What rich puts around the screen's content, and the content.
SCREEN = re.compile(r'<g transform="[^"]*" clip-path="url\(#[\w-]+-clip-terminal\)">')
RULE = re.compile(r"\.([\w-]+-r\d+) \{ (.*?) \}")


def film(frames: Sequence[tuple[str, float]], *, still: int) -> str:
    """One SVG of frames, each an SVG by rich of the same size, and the seconds that it stays.

    `still` is the frame that it begins with, and that readers see who want no motion. So it is the picture as well
    where CSS does not animate an image, or where the clock of an image stands still.
    """
    styles: dict[str, str] = {}
    head, parts, rules = "", [], []
    whole_s, at_s = sum(seconds for _, seconds in frames), 0.0
    skipped_s = sum(seconds for _, seconds in frames[:still])
    for i, (svg, seconds) in enumerate(frames):
        for name, style in RULE.findall(svg):
            svg = re.sub(rf"\b{name}(?= |\")", styles.setdefault(style, f"s{len(styles)}"), svg)
        svg = re.sub(r"terminal-\d+-", "terminal-", svg)
        found = SCREEN.search(svg)
        if found is None:
            raise ValueError("not a terminal's picture by rich")
        head = head or re.sub(r"^ *\.s\d+ \{.*\n", "", svg[: found.start()], flags=re.M)
        parts.append(f'<g class="frame frame-{i}">{svg[found.start() : svg.rindex("</svg>")].rstrip()}</g>')
        begin, end = (f"{100 * t / whole_s:.2f}%" for t in (at_s, at_s + seconds))
        before = "" if i == 0 else "0%{visibility:hidden}"
        rules.append(f"@keyframes frame-{i}{{{before}{begin}{{visibility:visible}}{end}{{visibility:hidden}}}}")
        rules.append(f".frame-{i}{{animation:frame-{i} {whole_s:.1f}s step-end -{skipped_s:.1f}s infinite}}")
        at_s += seconds
    rules += [f".{name} {{ {style} }}" for style, name in styles.items()]
    rules += [
        f".frame{{visibility:hidden}} .frame-{still}{{visibility:visible}}",
        "@media (prefers-reduced-motion: reduce){.frame{animation:none}}",
    ]
    head = head.replace("</style>", "\n".join([*rules, "</style>"]))
    return "\n".join([head.rstrip(), *parts, "</svg>", ""])
