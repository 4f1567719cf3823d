//! The worst that has been found: each ends, well within a second.

use super::{Expr, Scope};
use serde_json::{Value, json};
use std::time::Duration;

/// Values as large as a file that may be loaded, of each kind.
fn scope() -> Scope {
    let mut scope = Scope::default();
    let list = |count: usize, item: Value| Value::Array(vec![item; count]);
    scope.set(
        "vars",
        json!({
            "l": list(300_000, json!(1)),
            "n": (0..100_000).collect::<Vec<_>>(),
            "deep": list(300, list(300, json!(1))),
            "rows": list(5_000, json!({ "id": 1, "name": "a name", "ok": true })),
            "texts": list(20_000, json!("a".repeat(40))),
            "t": "a".repeat(1 << 20),
            "words": "word ".repeat(200_000),
            "half": "a".repeat(1 << 19),
            "m": (0..20_000).map(|n| (format!("key{n}"), json!(n))).collect::<serde_json::Map<_, _>>(),
        }),
    );
    scope
}

/// How long this thread has been on a processor: what others do meanwhile does not count.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

const WORST: [&str; 62] = [
    // Comparisons of large values in a loop.
    "range(10000).all(i, vars.l == vars.l)",
    "range(10000).all(i, vars.m == vars.m)",
    "range(10000).all(i, vars.t == vars.t)",
    "range(10000).all(i, vars.deep != vars.deep || true)",
    "range(10000).all(i, vars.t <= vars.t)",
    "vars.rows.all(r, vars.rows.all(s, r == s))",
    "range(10000).exists(i, vars.l != vars.l)",
    // What is looked for.
    "range(10000).all(i, 1000 in vars.n)",
    "range(10000).all(i, !(-1 in vars.n))",
    "vars.n.all(i, i in vars.n)",
    "range(10000).all(i, !('b' in vars.texts))",
    "range(10000).all(i, !(vars.t in vars.texts))",
    "range(10000).all(i, vars.rows[0] in vars.rows)",
    "range(10000).all(i, vars.t in vars.m)",
    "range(10000).exists(i, vars.m[vars.t] == 1)",
    // Text.
    "range(10000).all(i, vars.t.contains('b'))",
    "range(10000).all(i, !vars.t.contains('b'))",
    "range(10000).all(i, vars.words.split(' ').size() > 1)",
    "range(10000).all(i, vars.t.split('').size() > 1)",
    "vars.t.split('').map(a, vars.t.split('')).size()",
    "range(10000).all(i, vars.t.indexOf(vars.half + 'b') == -1)",
    "vars.t.indexOf(vars.half + 'b')",
    "vars.t.lastIndexOf('b' + vars.half)",
    "range(10000).all(i, vars.t.lastIndexOf('b') == -1)",
    "range(10000).all(i, vars.t.replace('a', 'bb').size() > 1)",
    "vars.t.replace('', vars.t)",
    "range(10000).all(i, vars.t.upperAscii().lowerAscii().trim() != '')",
    "range(10000).all(i, vars.t.substring(i) != '')",
    "range(10000).all(i, vars.t.charAt(1000000) == 'a')",
    "range(10000).all(i, vars.t.reverse() == vars.t)",
    "range(10000).all(i, strings.quote(vars.t) != '')",
    "range(10000).all(i, size(vars.t) > 1)",
    "range(10000).all(i, string(bytes(vars.t)) != '')",
    "range(10000).all(i, vars.t.startsWith(vars.half) && vars.t.endsWith(vars.half))",
    "range(2000).map(i, 'x').join(vars.t)",
    "range(10000).all(i, vars.texts.join(', ') != '')",
    "range(10000).map(i, '%.100f'.format([1.5])).size()",
    "range(10000).all(i, '%s'.format([vars.n.slice(0, 1000)]) != '')",
    // Patterns.
    "range(10000).all(i, 'a'.matches('(a{1,100}){1,9}' + string(i)))",
    "range(10000).all(i, !vars.t.matches('b$'))",
    "vars.t.matches('(a|aa|aaa|aaaa|[a-z]a[a-z]b)*c')",
    "vars.t.matches('(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)[^a]')",
    "vars.t.matches('(x+x+)+y') || vars.t.matches('[a-q][^u-z]{13}x')",
    "vars.t.matches('((a{0,100}){0,100}){0,100}')",
    "'x'.matches('(?i)\\\\p{L}{200}\\\\w{200}')",
    "vars.t.matches('(?:a?){300}(?:a){300}b')",
    // Lists.
    "range(10000).all(i, vars.n.sort().size() > 1)",
    "vars.n.sort().reverse().sort().size()",
    "range(10000).sortBy(i, range(1000).map(j, -i)[0])",
    "vars.n.distinct().size()",
    "vars.texts.distinct().size()",
    "range(10000).all(i, vars.deep.flatten().size() > 1)",
    "range(10000).all(i, vars.l.slice(0, 100000).size() > 1)",
    "range(10000).all(i, vars.l.reverse() + vars.l == [])",
    "range(10000).all(i, [vars.l, vars.l, vars.l] != [])",
    "range(10000).map(i, {'a': vars.l}).size()",
    "vars.deep.map(r, vars.deep.map(s, vars.deep))",
    "vars.n.all(i, vars.n.all(j, i == j || true))",
    "vars.l.filter(a, vars.l[a] == 1).map(a, [a, a, a]).size()",
    "range(10000).exists(i, vars.l[1.5] == 1 || vars.l - 1 == 2)",
    "lists.range(1000000).map(a, a).size()",
    "vars.m.map(k, vars.m.filter(l, l == k)).size()",
];

#[test]
fn the_worst_ends_within_a_second() {
    let scope = scope();
    let mut slow = Vec::new();
    for text in WORST {
        let expr = Expr::compile(text).expect(text);
        let begun = on_processor();
        let found = expr.eval(&scope);
        let _lines = expr.explain(&scope);
        let took = on_processor() - begun;
        if let Err(error) = &found {
            assert!(error.message.len() < 1_100, "{text}: {} bytes", error.message.len());
        }
        if took > Duration::from_secs(2) {
            slow.push(format!("{took:?} {text}"));
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}
