//! Dependencies in the manifests against the allow-table.

use serde_json::Value;

use super::table::Crate;

/// One dependency of one package, as the manifest says it.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    /// `normal`, `build` or `dev`.
    kind: &'a str,
    /// By path, so a neighbour in the workspace.
    by_path: bool,
}

/// Every broken rule as a sentence that names both ends of the arrow.
pub(super) fn findings(metadata: &Value, table: &[Crate]) -> Vec<String> {
    let mut findings = membership(metadata, table);
    for arrow in arrows(metadata) {
        let Some(row) = row(table, arrow.from) else { continue };
        findings.extend(judge(&arrow, row, table));
    }
    findings.extend(loops(metadata, table));
    findings
}

/// Published packages, each after everything it needs.
pub(super) fn publish_order(metadata: &Value, table: &[Crate]) -> Vec<String> {
    layers_upwards(metadata, table).0
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn arrows(metadata: &Value) -> Vec<Arrow<'_>> {
    let mut arrows = Vec::new();
    for package in packages(metadata) {
        let from = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            arrows.push(Arrow {
                from,
                to: dependency["name"].as_str().unwrap_or_default(),
                kind: dependency["kind"].as_str().unwrap_or("normal"),
                by_path: dependency["path"].is_string(),
            });
        }
    }
    arrows
}

fn row<'t>(table: &'t [Crate], package: &str) -> Option<&'t Crate> {
    table.iter().find(|row| row.package == package)
}

/// The workspace and the table name the same packages, and agree on what is published.
fn membership(metadata: &Value, table: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for package in packages(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        seen.push(name);
        // `publish = false` is an empty list of registries; no key is null.
        let published = package["publish"].as_array().is_none_or(|list| !list.is_empty());
        match row(table, name) {
            None => findings.push(format!("{name}: not in the table of layers")),
            Some(row) if row.published != published => findings.push(format!(
                "{name}: the manifest says publish = {published}, the table {}",
                row.published
            )),
            Some(_) => {}
        }
    }
    let absent = table.iter().filter(|row| !seen.contains(&row.package));
    findings.extend(absent.map(|row| format!("{}: in the table, not a member", row.package)));
    findings
}

fn judge(arrow: &Arrow<'_>, row: &Crate, table: &[Crate]) -> Option<String> {
    let Arrow { from, to, kind, by_path } = arrow;
    let target = self::row(table, to).filter(|_| *by_path);
    let Some(target) = target else {
        let known = *kind == "dev" || (!by_path && row.outside.contains(to));
        return (!known)
            .then(|| format!("{from} -> {to} ({kind}): a crate from outside that is not listed"));
    };
    if *from == "xtask" {
        return Some(format!("{from} -> {to} ({kind}): xtask builds without the house"));
    }
    // Tests may use the kit; otherwise they keep to the arrows of their crate.
    if !target.published && row.published {
        return (*kind != "dev")
            .then(|| format!("{from} -> {to} ({kind}): a development crate in a published one"));
    }
    (!row.house.contains(to)).then(|| format!("{from} -> {to} ({kind}): no such arrow"))
}

/// Packages that cannot be put in any order because they need each other.
fn loops(metadata: &Value, table: &[Crate]) -> Option<String> {
    let (_, rest) = layers_upwards(metadata, table);
    (!rest.is_empty()).then(|| format!("{}: need each other in a loop", rest.join(", ")))
}

/// `(order, rest)`: published packages from the bottom up, and those in a loop or above one.
fn layers_upwards(metadata: &Value, table: &[Crate]) -> (Vec<String>, Vec<String>) {
    let arrows = arrows(metadata);
    let published = table.iter().filter(|row| row.published).map(|row| row.package);
    let mut rest: Vec<&str> = published.collect();
    let mut order: Vec<String> = Vec::new();
    loop {
        let waits = |name: &str| {
            let mut below = arrows.iter().filter(|a| a.from == name && a.kind != "dev");
            below.any(|arrow| arrow.by_path && rest.contains(&arrow.to))
        };
        let (blocked, ready): (Vec<&str>, Vec<&str>) = rest.iter().partition(|name| waits(name));
        if ready.is_empty() {
            return (order, blocked.into_iter().map(str::to_owned).collect());
        }
        order.extend(ready.into_iter().map(str::to_owned));
        rest = blocked;
    }
}

#[cfg(test)]
mod tests;
