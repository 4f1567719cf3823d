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

#[test]
fn what_would_take_years_or_all_memory_is_refused() {
    for text in [
        "range(10000).map(a, range(10000).map(b, b))",
        "range(10000).all(a, range(10000).all(b, range(10000).exists(c, c == 9999)))",
        "range(10000).all(a, size(range(10000)) == 10000)",
        "range(10).map(a, range(10).map(b, range(10).map(c, range(10).map(d, range(10).map(e, range(10))))))",
        "['x'.format([])].map(a, [a+a+a+a+a+a+a+a].map(b, [b+b+b+b+b+b+b+b].map(c, [c+c+c+c+c+c+c+c].map(d, [d+d+d+d+d+d+d+d].map(e, [e+e+e+e+e+e+e+e].map(f, [f+f+f+f+f+f+f+f].map(g, [g+g+g+g+g+g+g+g].map(h, [h+h+h+h+h+h+h+h].map(i, i+i+i+i+i+i+i+i)))))))))",
        "range(9999).map(a, 'xxxxxxxxxxxxxxxx').join('').replace('x', range(9999).map(a, 'y').join('')).replace('y', range(9999).map(a, 'z').join(''))",
        "range(9999).map(a, 'x').join('').replace('', range(9999).map(a, 'y').join(''))",
        "'%s%s%s%s%s%s%s%s'.format([range(9999), range(9999), range(9999), range(9999)])",
    ] {
        let error = Expr::compile(text).and_then(|expr| expr.eval(&Scope::default())).expect_err(text);
        assert!(
            error.message.contains("more than") || error.message.contains("at most"),
            "{text}: {error:?}"
        );
    }
}

#[test]
fn what_a_person_writes_is_within_the_bounds() {
    for (text, value) in [
        ("range(300).map(a, range(300).filter(b, b == a)).size()", json!(300)),
        ("range(10000).map(a, string(a)).size()", json!(10000)),
        (
            "'a-b-c'.replace('-', '+') + 'a-b'.replace('-', '', 1) + 'aaa'.replace('a', 'b', 2)",
            json!("a+b+cabbba"),
        ),
        ("['a', 'b'].join(', ') + '%s %d'.format(['x', 1])", json!("a, bx 1")),
    ] {
        assert_eq!(Expr::compile(text).unwrap().eval(&Scope::default()).unwrap(), value, "{text}");
    }
}

#[test]
fn bounds_do_not_show_in_what_is_explained() {
    let explain = |text: &str| Expr::compile(text).unwrap().explain(&scope());
    assert_eq!(
        explain("out.entries.map(x, x).size() + out.n == 7 || 'a'.replace('a', 'b') == 'c'"),
        ["out.entries.(…).size() is 0", "out.n is 3", r#""a".replace("a", "b") is "b""#]
    );
}

#[test]
fn maps_are_gone_over_by_sorted_key_each_time() {
    let map: serde_json::Map<String, Value> =
        (0..64).map(|n| (format!("k{:02}", n * 37 % 64), json!(n))).collect();
    let sorted: Vec<String> = (0..64).map(|n| format!("k{n:02}")).collect();
    // A map built anew has another order each time, within one process too.
    for _ in 0..20 {
        let mut scope = Scope::default();
        scope.set("vars", json!({ "m": map }));
        let value = |text: &str| Expr::compile(text).expect("compiles").eval(&scope).expect("has a value");
        assert_eq!(value("vars.m.map(k, k)"), json!(sorted));
        assert_eq!(value("vars.m.filter(k, k > 'k60')"), json!(["k61", "k62", "k63"]));
        assert_eq!(value("{'b': 1, 'a': 2, 'c': 3}.map(k, k).join(',')"), json!("a,b,c"));
        assert_eq!(value("{3: 'c', 1: 'a', 2: 'b'}.map(k, k)"), json!([1, 2, 3]));
        assert_eq!(value("'%s'.format([{'b': 1, 'a': 2}])"), json!("{a: 2, b: 1}"));
        // The item that fails first is the same one, too.
        let failing = Expr::compile("vars.m.map(k, 1 / (vars.m[k] - 5))").expect("compiles");
        assert_eq!(failing.eval(&scope).expect_err("divides by zero").message, "division by zero");
    }
}

mod cost;
