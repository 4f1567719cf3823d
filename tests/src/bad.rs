//! Known-bad files that are too large or too strange to be kept as files; the others are in `tests/bad`.

fn laughs() -> String {
    (1..30).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","))
    })
}

/// One long list, named by as many aliases.
fn quadratic() -> String {
    let list = vec!["x"; 2_000].join(",");
    format!("a: &a [{list}]\nb: [{}]\n", vec!["*a"; 2_000].join(","))
}

fn utf_16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

/// The name and the bytes of each. `check` refuses every one.
#[must_use]
pub fn made() -> Vec<(&'static str, Vec<u8>)> {
    let steps = |text: &str| format!("name: x\nprecheck:\n{text}\n");
    let valid = steps("  a: { disk: { path: / } }");
    vec![
        ("billion_laughs", laughs().into()),
        ("quadratic_aliases", quadratic().into()),
        ("a_million_brackets", "[".repeat(1_000_000).into()),
        ("a_hundred_thousand_maps", "{a: ".repeat(100_000).into()),
        (
            "deep_under_an_unknown_key",
            format!("name: x\nzzz: {}{}", "[".repeat(5_000), "]".repeat(5_000)).into(),
        ),
        ("deep_within_the_bounds", format!("name: {}{}", "[".repeat(62), "]".repeat(62)).into()),
        ("a_scalar_of_70_mb", format!("name: {}", "x".repeat(70_000_000)).into()),
        ("a_scalar_of_one_mb", format!("name: [{}]", "x".repeat((1 << 20) - 20)).into()),
        ("a_hundred_thousand_keys", (0..50_000).map(|i| format!("k{i}: 1\n")).collect::<String>().into()),
        ("the_same_key_again_and_again", "a: 1\n".repeat(40_000).into()),
        ("mistakes_in_one_long_line", format!("{{{}}}", "k: 1, ".repeat(40_000)).into()),
        ("nul", "name: a\0b\n".into()),
        ("escape", "name: a\u{1b}[31mb\n".into()),
        ("bad_utf_8", b"name: x\nprecheck: { a: { disk: { path: \"/caf\xe9\" } } }\n".to_vec()),
        ("utf_16_little", utf_16(&format!("\u{feff}{valid}"), u16::to_le_bytes)),
        ("utf_16_big", utf_16(&format!("\u{feff}{valid}"), u16::to_be_bytes)),
        ("utf_16_without_a_mark", utf_16(&valid, u16::to_le_bytes)),
        ("an_id_of_10_kb", steps(&format!("  {}: {{ disk: {{ path: / }} }}", "a".repeat(10_000))).into()),
        (
            "a_deep_expression",
            steps(&format!(
                "  a: {{ disk: {{ path: / }}, expect: \"{}1{}\" }}",
                "(".repeat(400),
                ")".repeat(400)
            ))
            .into(),
        ),
        (
            "a_long_expression",
            steps(&format!("  a: {{ disk: {{ path: / }}, expect: \"{}\" }}", "x".repeat(2_000))).into(),
        ),
        (
            "ten_thousand_expressions",
            (0..10_000)
                .fold("name: x\nprecheck:\n".to_owned(), |text, i| {
                    format!("{text}  a{i}: {{ disk: {{ path: \"${{{{ params.x }}}}\" }} }}\n")
                })
                .into(),
        ),
        ("nothing_but_carriage_returns", "\r".repeat(1_000).into()),
        ("only_a_byte_order_mark", "\u{feff}".into()),
    ]
}
