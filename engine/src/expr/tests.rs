use super::*;
use serde_json::json;

fn scope() -> Scope {
    let mut scope = Scope::default();
    scope.set("out", json!({ "row": { "status": "failed" }, "n": 3, "entries": [] }));
    scope.set("steps", json!({ "a": { "out": { "size": 1024 } }, "b": { "status": "skipped" } }));
    scope
}

fn value(text: &str) -> Value {
    Expr::compile(text).unwrap().eval(&scope()).unwrap()
}

#[test]
fn values_keep_their_types() {
    assert_eq!(value("out.n + 1"), json!(4));
    assert_eq!(value("steps.a.out.size == 1024"), json!(true));
    assert_eq!(value("range(3).map(i, string(i))"), json!(["0", "1", "2"]));
    assert_eq!(value("size(out.entries)"), json!(0));
    assert_eq!(value("has(steps.b.out)"), json!(false));
    assert_eq!(value("'20250123_101500'.substring(4, 6) + 'a b'.split(' ')[1]"), json!("01b"));
    assert_eq!(value("basename('/a/b.txt') + dirname('/a/b.txt')"), json!("b.txt/a"));
}

#[test]
fn references_are_found_and_local_names_are_not() {
    let expr =
        Expr::compile("steps.a.out.size > 1 && has(steps.b.out) && out.list.all(x, x.y == vars.z)").unwrap();
    let paths: Vec<_> = expr.references().iter().map(|r| (r.path.join("."), r.guarded)).collect();
    assert_eq!(
        paths,
        [
            ("steps.a.out.size".to_owned(), false),
            ("steps.b.out".to_owned(), true),
            ("out.list".to_owned(), false),
            ("vars.z".to_owned(), false)
        ]
    );
    let text = expr.text();
    assert_eq!(&text[expr.references()[0].range.clone()], "steps.a.out.size");
    assert_eq!(&text[expr.references()[3].range.clone()], "vars.z");
}

#[test]
fn the_same_item_of_another_foreach_is_told_from_any_item() {
    let by_own_key = |text: &str| Expr::compile(text).unwrap().references()[0].by_own_key;
    assert!(by_own_key("steps.a.out[each.key].path"));
    assert!(!by_own_key("steps.a.out[0].path"));
    assert!(!by_own_key("size(steps.a.out)"));
}

#[test]
fn a_false_expectation_shows_the_value_of_each_operand() {
    let explain = |text: &str| Expr::compile(text).unwrap().explain(&scope());
    assert_eq!(explain("out.row.status == \"completed\""), [r#"out.row.status is "failed""#]);
    assert_eq!(explain("out.n == 3 && size(out.entries) > 0"), ["size(out.entries) is 0"]);
    assert_eq!(explain("out.n + 1 == steps.a.out.size"), ["out.n is 3", "steps.a.out.size is 1024"]);
    assert_eq!(explain("out.missing == 1"), ["out.missing has no value"]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let error = Expr::compile("out.n ==").unwrap_err();
    assert_eq!(error.message, "the expression ends too early: a value is missing");
    let error = Expr::compile("out.nn > 1").unwrap().eval(&scope()).unwrap_err();
    assert_eq!(error.message, "no such key `nn`");
}

#[test]
fn long_and_deep_expressions_are_refused_before_they_are_parsed() {
    let sum = vec!["1"; 102].join("+");
    assert!(Expr::compile(&sum).unwrap_err().message.contains("101 operators"));
    let sum = vec!["1"; 101].join("+");
    assert_eq!(Expr::compile(&sum).unwrap().eval(&Scope::default()).unwrap(), json!(101));
    assert!(Expr::compile(&"(".repeat(1000)).unwrap_err().message.contains("operators"));
    assert!(Expr::compile(&"x".repeat(1025)).unwrap_err().message.contains("1025 bytes"));
}
