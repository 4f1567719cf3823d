//! Any text as an expression: it compiles or says why not, and has a value or says why not.

#![no_main]

use engine::expr::{Expr, Kinds, Scope};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let expr = match Expr::compile(text) {
        Ok(expr) => expr,
        Err(error) => {
            assert!(error.range.start <= error.range.end && error.range.end <= text.len(), "{error:?}");
            assert!(text.is_char_boundary(error.range.start), "{error:?}");
            return;
        }
    };
    for reference in expr.references() {
        assert!(text.get(reference.range.clone()).is_some(), "{reference:?}");
        assert!(text.get(reference.part(reference.path.len() - 1)).is_some(), "{reference:?}");
    }
    let mut scope = Scope::default();
    scope.set("params", json!({ "n": 1, "s": "text", "l": [1, "a", 2.5, null], "m": { "a": { "b": true } } }));
    scope.set("vars", json!({ "x": "你好", "big": "a".repeat(4096) }));
    scope.set("out", json!({ "code": 0, "rows": [{ "id": 1 }], "row": null }));
    scope.set("steps", json!({ "a": { "out": { "size": 1024 }, "status": "done" } }));
    let kinds = expr.kinds(&mut |path| match path {
        [root, name] if root == "params" && name == "n" => Kinds::INT,
        [root, name] if root == "params" && name == "s" => Kinds::TEXT,
        [root, name] if root == "params" && name == "l" => Kinds::LIST,
        _ => Kinds::ANY,
    });
    match expr.eval(&scope) {
        // What is told of a value before it is known must hold.
        Ok(value) => assert!(kinds.meets(Kinds::of(&value)), "`{text}` is {value}, and {} was told", kinds.words()),
        Err(error) => assert!(!error.message.is_empty()),
    }
    let _lines = expr.explain(&scope);
});
