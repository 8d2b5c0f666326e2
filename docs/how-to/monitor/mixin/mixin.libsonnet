// Rules and dashboards for Prometheus and Grafana, as a monitoring mixin. README.md describes the settings.
{
  _config+:: {
    // Alerts to leave out, by name.
    without: [],
    // The values of the label `severity`.
    severities: { page: 'page', ticket: 'ticket' },
    // Labels added to every alert.
    labels: {},
    // Fields of single alerts, by name: { PromoterLate: { 'for': '10m' } }.
    alerts: {},
    // Address of the rendered docs, for the annotation `runbook_url`: 'https://docs.example.com/promoter'.
    docs: '',
    // Time between two evaluations. The rules are tested with 15 seconds.
    interval: '15s',
    // Settings of the dashboards.
    tags: ['promoter'],
    refresh: '10s',
    timezone: 'utc',
  },

  local config = $._config,

  local files = [
    std.parseYaml(importstr 'rules/promoter.yml'),
    std.parseYaml(importstr 'rules/exporter.yml'),
  ],

  local names = [rule.alert for file in files for group in file.groups for rule in group.rules],
  local named = config.without + std.objectFields(config.alerts),
  local unknown = std.setDiff(std.set(named), std.set(names)),

  // 'how-to/page.md#heading' is docs + '/how-to/page.html#heading'.
  local address(runbook) = std.rstripChars(config.docs, '/') + '/' + std.strReplace(runbook, '.md#', '.html#'),

  local alert(rule) =
    local labels = config.labels { severity: config.severities[rule.labels.severity] };
    local added = if config.docs == '' then {} else { runbook_url: address(rule.annotations.runbook) };
    std.mergePatch(rule { labels+: labels, annotations+: added }, std.get(config.alerts, rule.alert, {})),

  prometheusAlerts+:: {
    assert unknown == [] : 'no such alert: ' + std.join(', ', unknown),
    groups+: [
      group {
        interval: config.interval,
        rules: [alert(rule) for rule in group.rules if !std.member(config.without, rule.alert)],
      }
      for file in files
      for group in file.groups
    ],
  },

  local settled = { tags: config.tags, refresh: config.refresh, timezone: config.timezone },

  grafanaDashboards+:: {
    'promoter.json': (import 'dashboards/promoter.json') + settled,
    'promoter-exporter.json': (import 'dashboards/exporter.json') + settled,
  },
}
