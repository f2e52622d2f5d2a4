"""The alerts, the dashboard and docs/operations.md agree with each other and with what a server really tells.

python tests/deploy/check_monitoring.py --metrics scrape.txt --node-modules target/ci/npm/node_modules

A scrape is what /metrics answered. Several count as one: a server without TLS has no certificate, one without traffic no latencies.
Needs promtool, and TypeScript and @grafana/schema in the folder of node modules. What is missing is a failure, never a check that is
left out. Exit codes: 0 all is well, 1 something disagrees, 2 called wrongly.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = pathlib.Path("deploy/prometheus")
ALERTS = PROMETHEUS / "alerts.yml"
ALERT_TESTS = PROMETHEUS / "alerts_test.yml"
CONFIG = PROMETHEUS / "prometheus.yml"
DASHBOARD = pathlib.Path("deploy/grafana/countersign.json")
HANDBOOK = pathlib.Path("docs/operations.md")

# Names that begin so are metrics of ours; all others in an expression are functions, labels or Prometheus' own.
OUR_METRICS = ("countersign_", "rpc_server_", "process_", "target_")
SEVERITIES = ("critical", "warning")
PARTS_OF_A_RUNBOOK = ("**Means:**", "**Look at:**", "**Do:**")
# What Prometheus adds to each series, and `le` of histograms.
ADDED_LABELS = {"job", "instance", "le"}
VARIABLES = {"$__rate_interval": "5m", "$instance": ".+", "$job": "countersign"}
TOOL_TIMEOUT_S = 120

# `types`: nothing that happens to be installed beside the schema.
TYPESCRIPT_OPTIONS = {
    "strict": True,
    "noEmit": True,
    "skipLibCheck": True,
    "target": "es2022",
    "module": "preserve",
    "moduleResolution": "bundler",
    "types": [],
}
# Enums of the schema are plain values in JSON. The schema has no type for what Prometheus is asked.
COMMON_TYPES = """
import type { AnnotationQuery, Dashboard, DataQuery } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Target = DataQuery & { expr: string; legendFormat?: string; instant?: boolean; range?: boolean; format?: 'table' | 'heatmap' };
type PrometheusDashboard = Omit<Dashboard, 'annotations'> & { annotations: { list: AnnotationQuery<Target>[] } };
"""
PANEL_TYPES = {
    "timeseries": "TimeSeriesPanelCfg",
    "stat": "StatPanelCfg",
    "table": "TablePanelCfg",
    "heatmap": "HeatmapPanelCfg",
}
# Panels whose fields have no settings of their own.
WITHOUT_FIELD_CONFIG = {"stat"}


class CannotCheck(Exception):
    """A tool or a file is missing."""


@dataclasses.dataclass
class Scrape:
    """What a server tells: the names of metrics, and of series with their labels."""

    metrics: set
    labels: dict

    @classmethod
    def of(cls, texts):
        scrape = cls(set(), {})
        for line in itertools.chain.from_iterable(text.splitlines() for text in texts):
            if kind := re.match(r"# TYPE (\S+) (\S+)", line):
                scrape._declare(*kind.groups())
            elif series := re.match(r"([a-zA-Z_:][\w:]*)(\{.*\})?\s", line):
                names = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', series.group(2) or "")
                scrape.labels.setdefault(series.group(1), set()).update(names)
        return scrape

    def _declare(self, name, kind):
        self.metrics.add(name)
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            self.labels.setdefault(name + suffix, set())


@dataclasses.dataclass
class Rule:
    """An entry of the rules file."""

    kind: str
    name: str
    expr: str
    text: str

    def field(self, key):
        found = re.search(rf'^ +{key}: "?(.*?)"?$', self.text, re.MULTILINE)
        return found.group(1) if found else ""


def read_rules(text):
    """The rules, read without a YAML parser; promtool makes sure that the file is what it seems to be."""
    rules = []
    for part in re.split(r"^(?= +- (?:alert|record): )", text, flags=re.MULTILINE)[1:]:
        kind, name = re.match(r" +- (alert|record): (\S+)", part).groups()
        one_line = re.search(r"^ {8}expr: ([^|\n].*)$", part, re.MULTILINE)
        block = re.search(r"^ {8}expr: \|\n((?: {10}.*\n)+)", part, re.MULTILINE)
        rules.append(Rule(kind, name, (one_line or block).group(1), part))
    return rules


def metrics_in(text):
    """The metrics and recorded series that `text` names."""
    words = re.findall(r"[a-zA-Z_:][\w:]*", without_strings(text))
    return {word for word in words if word.startswith(OUR_METRICS) or ":" in word.strip(":")}


def without_strings(expr):
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)


def check_expression(where, expr, scrape, recorded):
    """That each metric exists, and has the labels by which it is chosen or summed up."""
    names = metrics_in(expr)
    for name in sorted(names):
        if name not in scrape.labels and name not in recorded:
            yield f"{where}: no server tells `{name}`, and no rule records it"
    for name, chosen in re.findall(r"([a-zA-Z_][\w:]*)\{([^}]*)\}", expr):
        known = labels_of(name, scrape, recorded)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", without_strings(chosen)):
            if known is not None and label not in known:
                yield f"{where}: `{name}` has no label `{label}`"
    known = [labels_of(name, scrape, recorded) for name in names]
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
        for label in filter(None, re.split(r",\s*", group)):
            if None not in known and label not in set().union(ADDED_LABELS, *known):
                yield f"{where}: no metric of the expression has the label `{label}`"


def labels_of(name, scrape, recorded):
    """None if they are not known: of what is Prometheus' own, and of metrics that had no series when they were scraped."""
    if name in recorded:
        return ADDED_LABELS | set(re.split(r",\s*", re.search(r"by \(([^)]*)\)", recorded[name]).group(1)))
    labels = scrape.labels.get(name)
    return labels | ADDED_LABELS if labels else None


def check_alerts(rules, tests, scrape):
    recorded = {rule.name: rule.expr for rule in rules if rule.kind == "record"}
    for rule in rules:
        yield from check_expression(f"{ALERTS}: {rule.name}", rule.expr, scrape, recorded)
    for rule in (rule for rule in rules if rule.kind == "alert"):
        if rule.field("severity") not in SEVERITIES:
            yield f"{ALERTS}: {rule.name}: its severity is none of {', '.join(SEVERITIES)}"
        if not rule.field("summary").endswith("."):
            yield f"{ALERTS}: {rule.name}: its summary is no sentence"
        if rule.field("runbook_url") != f"{HANDBOOK}#{rule.name.lower()}":
            yield f"{ALERTS}: {rule.name}: its runbook_url is not `{HANDBOOK}#{rule.name.lower()}`"
        for case in ("fires", "is quiet"):
            if not re.search(rf"^  - name: {rule.name} {case}$", tests, re.MULTILINE):
                yield f"{ALERT_TESTS}: no case is called `{rule.name} {case}`"
        if len(re.findall(rf"^ +alertname: {rule.name}$", tests, re.MULTILINE)) < 2:
            yield f"{ALERT_TESTS}: `{rule.name}` is not looked for in both of its cases"


def check_handbook(handbook, alerts, recorded, scrape):
    named = metrics_in(" ".join(re.findall(r"`[^`\n]+`", handbook)))
    for name in sorted(named - set(scrape.labels) - scrape.metrics - recorded.keys()):
        yield f"{HANDBOOK}: names `{name}`, which no server tells"
    for name in sorted(name for name in scrape.metrics if f"`{name}`" not in handbook):
        yield f"{HANDBOOK}: does not say what `{name}` is"
    sections = {}
    chapter = re.search(r"^## Alerts\n(.*?)(?=^## |\Z)", handbook, re.MULTILINE | re.DOTALL)
    for section in re.split(r"^### ", chapter.group(1) if chapter else "", flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        sections[title.strip()] = text
    for name in sorted(alerts.keys() - sections.keys()):
        yield f"{HANDBOOK}: the alert `{name}` has no section under `## Alerts`"
    for name, text in sections.items():
        if name not in alerts:
            yield f"{HANDBOOK}: the section `{name}` is about no alert of {ALERTS}"
            continue
        places = [text.find(part) for part in PARTS_OF_A_RUNBOOK]
        if -1 in places or places != sorted(places):
            yield f"{HANDBOOK}: `{name}` does not say {' '.join(PARTS_OF_A_RUNBOOK)} in this order"
        if not text.lstrip().startswith(beginning := first_line(alerts[name])):
            yield f"{HANDBOOK}: `{name}` does not begin with `{beginning}`"


def first_line(alert):
    """What the section of an alert begins with: how serious it is, and how long it must last."""
    minutes = re.match(r"(\d+)m$", alert.field("for"))
    wait = f"after {minutes.group(1)} minute{'' if minutes.group(1) == '1' else 's'}" if minutes else "at once"
    return f"{alert.field('severity').capitalize()}, {wait}."


def all_panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions(dashboard):
    """What the dashboard asks Prometheus: where, and the expression with variables filled in."""
    queries = []
    for panel in all_panels(dashboard):
        queries += [(f"panel `{panel['title']}`, {target['refId']}", target["expr"]) for target in panel.get("targets", [])]
    queries += [(f"annotation `{each['name']}`", each["target"]["expr"]) for each in dashboard["annotations"]["list"]]
    for where, expr in queries:
        for variable, value in VARIABLES.items():
            expr = expr.replace(variable, value)
        yield f"{DASHBOARD}: {where}", expr


def check_dashboard(dashboard, recorded, scrape):
    for where, expr in expressions(dashboard):
        if "$" in expr:
            yield f"{where}: a variable is not known: `{expr}`"
        yield from check_expression(where, expr, scrape, recorded)
    for variable in dashboard["templating"]["list"]:
        query = variable["query"]["query"] if isinstance(variable["query"], dict) else ""
        yield from check_expression(f"{DASHBOARD}: variable `{variable['name']}`", query, scrape, recorded)
    panels = list(all_panels(dashboard))
    if len({panel["id"] for panel in panels}) < len(panels):
        yield f"{DASHBOARD}: two panels have the same id"
    for one, other in itertools.combinations(dashboard["panels"], 2):
        if overlap(one["gridPos"], other["gridPos"]):
            yield f"{DASHBOARD}: `{one['title']}` lies on `{other['title']}`"


def overlap(one, other):
    return all(
        one[place] < other[place] + other[size] and other[place] < one[place] + one[size] for place, size in (("x", "w"), ("y", "h"))
    )


def typescript_of(dashboard):
    """A program that compiles if the dashboard is what Grafana's own types say."""
    text = COMMON_TYPES
    for kind, module in PANEL_TYPES.items():
        fields = "" if kind in WITHOUT_FIELD_CONFIG else f", type FieldConfig as {kind}Fields"
        path = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{module}_types.gen"
        text += f"import {{ type Options as {kind}Options{fields} }} from '{path}';\n"
    text += f"export const dashboard: Plain<PrometheusDashboard> = {json.dumps(dashboard)};\n"
    for panel in all_panels(dashboard):
        kind, title = panel["type"], json.dumps(panel["title"])
        if kind == "row":
            continue
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        text += f"// {title}\n"
        text += f"export const options{panel['id']}: Plain<{kind}Options> = {json.dumps(panel['options'])};\n"
        text += f"export const targets{panel['id']}: Plain<Target>[] = {json.dumps(panel['targets'])};\n"
        if kind not in WITHOUT_FIELD_CONFIG:
            text += f"export const fields{panel['id']}: Plain<Partial<{kind}Fields>> = {json.dumps(custom)};\n"
        elif custom:
            text += f"export const fields{panel['id']}: never = 'this kind of panel has no field settings of its own';\n"
    return text


def check_types(dashboard, node_modules):
    unknown = {panel["type"] for panel in all_panels(dashboard)} - PANEL_TYPES.keys() - {"row"}
    if unknown:
        yield f"{DASHBOARD}: panels of these types cannot be checked yet: {', '.join(sorted(unknown))}"
        return
    with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
        folder = pathlib.Path(folder)
        (folder / "node_modules").symlink_to(node_modules)
        (folder / "check.ts").write_text(typescript_of(dashboard))
        (folder / "tsconfig.json").write_text(json.dumps({"files": ["check.ts"], "compilerOptions": TYPESCRIPT_OPTIONS}))
        yield from run(f"{DASHBOARD}: Grafana's types", [node_modules / ".bin/tsc", "--project", folder])


def check_syntax(dashboard):
    """That promtool reads every expression of the dashboard."""
    # JSON is YAML. The names of groups are what promtool complains with.
    groups = [
        {"name": f"{number}: {where}", "rules": [{"record": "expression", "expr": expr}]}
        for number, (where, expr) in enumerate(expressions(dashboard))
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": groups}, file)
        file.flush()
        # Without lint: it takes rules with one name for duplicates.
        yield from run(f"{DASHBOARD}: expressions", ["promtool", "check", "rules", "--lint=none", file.name])


def run(what, command, **options):
    """What the tool says against it, as one problem."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_S, **options
    )
    if done.returncode != 0:
        yield f"{what}:\n{(done.stdout + done.stderr).strip()}"


def read(path):
    try:
        return path.read_text()
    except OSError as error:
        raise CannotCheck(f"`{path}` cannot be read: {error.strerror}") from error


def tools_there(node_modules):
    if not shutil.which("promtool"):
        raise CannotCheck("promtool is not installed: apt-get install --no-install-recommends prometheus")
    for part in (".bin/tsc", "@grafana/schema/package.json"):
        if not (node_modules / part).exists():
            raise CannotCheck(f"`{node_modules / part}` is missing: npm install typescript @grafana/schema")


def problems(root, scrapes, node_modules):
    tools_there(node_modules)
    texts = [read(path) for path in scrapes]
    for path, text in zip(scrapes, texts):
        yield from run(f"{path}: promtool check metrics", ["promtool", "check", "metrics"], input=text)
    yield from run(f"{ALERTS}: promtool check rules", ["promtool", "check", "rules", root / ALERTS])
    yield from run(f"{ALERT_TESTS}: promtool test rules", ["promtool", "test", "rules", root / ALERT_TESTS])
    yield from run(f"{CONFIG}: promtool check config", ["promtool", "check", "config", root / CONFIG])

    scrape = Scrape.of(texts)
    rules = read_rules(read(root / ALERTS))
    alerts = {rule.name: rule for rule in rules if rule.kind == "alert"}
    recorded = {rule.name: rule.expr for rule in rules if rule.kind == "record"}
    yield from check_alerts(rules, read(root / ALERT_TESTS), scrape)
    yield from check_handbook(read(root / HANDBOOK), alerts, recorded, scrape)

    dashboard = json.loads(read(root / DASHBOARD))
    yield from check_dashboard(dashboard, recorded, scrape)
    yield from check_syntax(dashboard)
    yield from check_types(dashboard, node_modules)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--metrics", nargs="+", required=True, type=pathlib.Path, metavar="FILE", help="what /metrics answered")
    parser.add_argument("--node-modules", required=True, type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="where deploy/ and docs/ are")
    arguments = parser.parse_args()
    try:
        found = list(problems(arguments.root, arguments.metrics, arguments.node_modules.resolve()))
    except CannotCheck as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{len(found)} problems" if found else "alerts, dashboard and handbook agree with the metrics")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
