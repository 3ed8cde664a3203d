//! Each rule broken once, on a fabricated workspace of a few crates.

use serde_json::{Value, json};

use super::super::table::Crate;
use super::{findings, publish_order};

const TABLE: &[Crate] = &[
    Crate { package: "top", published: true, house: &["middle"], outside: &["rayon"] },
    Crate { package: "middle", published: true, house: &["bottom"], outside: &[] },
    Crate { package: "bottom", published: true, house: &[], outside: &["zerocopy"] },
    Crate { package: "testkit", published: false, house: &["bottom"], outside: &[] },
    Crate { package: "xtask", published: false, house: &[], outside: &["serde_json"] },
];

fn package(name: &str, dependencies: &[Value]) -> Value {
    let publish = if matches!(name, "testkit" | "xtask") { json!([]) } else { Value::Null };
    json!({ "name": name, "publish": publish, "dependencies": dependencies })
}

fn near(name: &str, kind: Option<&str>) -> Value {
    json!({ "name": name, "kind": kind, "path": format!("/house/{name}") })
}

fn far(name: &str, kind: Option<&str>) -> Value {
    json!({ "name": name, "kind": kind })
}

/// A workspace that obeys every rule, with `extra` added to the dependencies of `to`.
fn house(to: &str, extra: &[Value]) -> Value {
    let obedient = [
        ("top", vec![near("middle", None), far("rayon", None), near("testkit", Some("dev"))]),
        ("middle", vec![near("bottom", None), far("proptest", Some("dev"))]),
        ("bottom", vec![far("zerocopy", None)]),
        ("testkit", vec![near("bottom", None)]),
        ("xtask", vec![far("serde_json", None)]),
    ];
    let packages = obedient.into_iter().map(|(name, mut dependencies)| {
        if name == to {
            dependencies.extend_from_slice(extra);
        }
        package(name, &dependencies)
    });
    json!({ "packages": packages.collect::<Vec<_>>() })
}

fn check(to: &str, extra: Value, expected: &[&str]) {
    assert_eq!(findings(&house(to, &[extra]), TABLE), expected);
}

#[test]
fn an_obedient_house_has_no_findings_and_an_order_from_the_bottom_up() {
    let house = house("", &[]);
    assert_eq!(findings(&house, TABLE), [""; 0]);
    assert_eq!(publish_order(&house, TABLE), ["bottom", "middle", "top"]);
}

#[test]
fn an_arrow_past_a_layer_is_named() {
    check("top", near("bottom", None), &["top -> bottom (normal): no such arrow"]);
    check("top", near("bottom", Some("build")), &["top -> bottom (build): no such arrow"]);
    check("top", near("bottom", Some("dev")), &["top -> bottom (dev): no such arrow"]);
}

#[test]
fn an_arrow_upwards_is_named_and_so_is_the_loop() {
    check(
        "bottom",
        near("middle", None),
        &[
            "bottom -> middle (normal): no such arrow",
            "top, middle, bottom: need each other in a loop",
        ],
    );
}

#[test]
fn testkit_is_for_development_only() {
    let text = "middle -> testkit (normal): a development crate in a published one";
    check("middle", near("testkit", None), &[text]);
    check("middle", near("testkit", Some("dev")), &[]);
}

#[test]
fn xtask_needs_nothing_of_the_house_not_even_in_its_tests() {
    let text = "xtask -> bottom (dev): xtask builds without the house";
    check("xtask", near("bottom", Some("dev")), &[text]);
    let text = "xtask -> testkit (normal): xtask builds without the house";
    check("xtask", near("testkit", None), &[text]);
}

#[test]
fn a_crate_from_outside_must_be_listed() {
    let text = "bottom -> tokio (normal): a crate from outside that is not listed";
    check("bottom", far("tokio", None), &[text]);
    let text = "middle -> cc (build): a crate from outside that is not listed";
    check("middle", far("cc", Some("build")), &[text]);
    check("bottom", far("proptest", Some("dev")), &[]);
}

#[test]
fn a_stranger_with_the_name_of_a_neighbour_is_still_a_stranger() {
    let text = "top -> middle (normal): a crate from outside that is not listed";
    check("top", far("middle", None), &[text]);
}

#[test]
fn members_and_table_agree() {
    let mut grown = house("", &[]);
    let packages = grown["packages"].as_array_mut().unwrap();
    packages.retain(|package| package["name"] != "middle");
    packages.push(package("extra", &[]));
    let found = findings(&grown, TABLE);
    assert!(found.contains(&"extra: not in the table of layers".to_owned()), "{found:?}");
    assert!(found.contains(&"middle: in the table, not a member".to_owned()), "{found:?}");
}

#[test]
fn publishing_by_accident_is_found() {
    let mut careless = house("", &[]);
    let packages = careless["packages"].as_array_mut().unwrap();
    packages[3]["publish"] = Value::Null;
    let text = "testkit: the manifest says publish = true, the table false";
    assert_eq!(findings(&careless, TABLE), [text]);
}
