//! Evaluation is a function: the same expression on the same values gives the same result, value for value and line
//! for line, in every process.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use engine::expr::{Expr, Scope};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value, json};

/// Where a child of the test finds the cases and puts what came of them.
const FOLDER: &str = "EVALUATION_FOLDER";

/// A map whose order matters: from one to twenty keys, some alike.
fn map(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    proptest::collection::btree_map("[a-cA-C0-9 é]{1,3}", values, 1..20)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// `m` is a map of numbers, `n` a map of such maps, `l` a list of them.
fn names() -> impl Strategy<Value = Value> {
    let number = || (-3i64..4).prop_map(Value::from);
    let maps = proptest::collection::vec(map(number()), 1..4);
    (map(number()), map(map(number())), maps).prop_map(|(m, n, l)| json!({ "m": m, "n": n, "l": l }))
}

/// A map of numbers.
fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("m".to_owned()),
        1 => Just("l[0]".to_owned()),
        1 => Just("n[n.map(k, k)[0]]".to_owned()),
        1 => Just("{'b': 1, 'a': 2, 'é': 3, 'B': 0, '1': -1, 'ab': 2}".to_owned()),
        1 => Just("{3: 1, 'x': 2, true: 3, 7u: 4, -1: 5}".to_owned()),
    ]
}

/// Whether something holds of the key `k` of the map.
fn condition(map: &str) -> impl Strategy<Value = String> + use<> {
    let map = map.to_owned();
    (0..5u8, -2i64..3).prop_map(move |(kind, number)| match kind {
        0 => format!("{map}[k] > {number}"),
        1 => "string(k) > 'b'".to_owned(),
        // Which key is met first decides what goes wrong.
        2 => format!("1 / {map}[k] >= {number}"),
        3 => format!("int(k) > {number}"),
        _ => format!("{map}[k] % 2 == 0 || string(k).size() == 1"),
    })
}

/// A list whose order may come from a map.
fn list() -> impl Strategy<Value = String> {
    numbers().prop_flat_map(|map| {
        let condition = condition(&map);
        (0..12u8, condition).prop_map(move |(kind, condition)| match kind {
            0 => format!("{map}.map(k, string(k))"),
            1 => format!("{map}.filter(k, {condition})"),
            2 => format!("{map}.map(k, {condition}, [string(k), string({map}[k])])"),
            3 => format!("{map}.map(k, {map}[k])"),
            4 => "n.map(j, n[j].map(k, [string(j), string(n[j][k])]))".to_owned(),
            5 => "n.map(j, n[j].filter(k, n[j][k] > 0))".to_owned(),
            6 => format!("n.map(j, {map}.map(k, {condition}, string(j) + string(k)))"),
            7 => format!("{map}.map(k, string(k)).reverse()"),
            8 => format!("{map}.map(k, {map}[k]).distinct()"),
            9 => format!("{map}.map(k, [k]).flatten()"),
            10 => "l.map(x, x.map(k, string(k) + string(x[k])))".to_owned(),
            _ => "n.map(j, n[j])".to_owned(),
        })
    })
}

/// An expression of any type.
fn expression() -> impl Strategy<Value = String> {
    let truth = numbers().prop_flat_map(|map| {
        let condition = condition(&map);
        (0..3u8, condition).prop_map(move |(kind, condition)| {
            let word = ["all", "exists", "exists_one"][usize::from(kind)];
            format!("{map}.{word}(k, {condition})")
        })
    });
    prop_oneof![
        2 => list(),
        2 => list().prop_map(|list| format!("{list}[0]")),
        1 => list().prop_map(|list| format!("{list}.map(x, string(x)).join(',')")),
        1 => list().prop_map(|list| format!("{{'first': {list}[0], 'all': {list}}}")),
        1 => (list(), list()).prop_map(|(a, b)| format!("{a} == {b}")),
        1 => (list(), list()).prop_map(|(a, b)| format!("{a} + {b}")),
        3 => truth,
    ]
}

/// All that can be seen of an evaluation: the value or the error, and the explanation.
fn seen(text: &str, names: &Value) -> Value {
    let mut scope = Scope::default();
    for (name, value) in names.as_object().into_iter().flatten() {
        scope.set(name, value.clone());
    }
    match Expr::compile(text) {
        Err(error) => json!({ "refused": error.message }),
        Ok(expr) => match expr.eval(&scope) {
            // As text: here the order of the keys of a map counts too.
            Ok(value) => json!({ "value": value.to_string(), "why": expr.explain(&scope) }),
            Err(error) => json!({ "error": error.message, "why": expr.explain(&scope) }),
        },
    }
}

fn evaluate_all(folder: &Path) -> Vec<Value> {
    let cases = fs::read_to_string(folder.join("cases")).expect("cases");
    let cases: Vec<(String, Value)> = serde_json::from_str(&cases).expect("cases");
    cases.iter().map(|(text, names)| seen(text, names)).collect()
}

/// What a child of this test does; without being asked, nothing.
#[test]
fn another_process() {
    if let Some(folder) = env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        fs::write(folder.join("seen"), json!(evaluate_all(folder)).to_string()).expect("written");
    }
}

#[test]
fn an_expression_has_one_value_in_all_processes() {
    let config = Config::default();
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (expression(), names());
    let cases: Vec<_> = (0..500).map(|_| strategy.new_tree(&mut runner).expect("a case").current()).collect();
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("cases"), json!(cases).to_string()).expect("written");
    let here = evaluate_all(folder.path());
    let mut kinds = BTreeSet::new();
    for ((text, names), one) in cases.iter().zip(&here) {
        assert_eq!(*one, seen(text, names), "twice in one process: {text} with {names}");
        kinds.extend(one.as_object().map(Map::keys).into_iter().flatten().cloned());
    }
    assert!(kinds.contains("value") && kinds.contains("error"), "too few kinds of ends: {kinds:?}");
    let refused = here.iter().filter(|one| one.get("refused").is_some()).count();
    assert_eq!(refused, 0, "the cases are no expressions");
    for _ in 0..2 {
        let child = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "another_process"])
            .env(FOLDER, folder.path())
            .output()
            .expect("it starts");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let there = fs::read_to_string(folder.path().join("seen")).expect("seen");
        let there: Vec<Value> = serde_json::from_str(&there).expect("JSON");
        assert_eq!(here.len(), there.len());
        for (((text, names), here), there) in cases.iter().zip(&here).zip(&there) {
            assert_eq!(here, there, "in two processes: {text} with {names}");
        }
    }
}
