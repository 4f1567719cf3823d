//! Reports by templates and as JSON.

use crate::sample::{failed_transfer, media_sync};
use engine::report::{
    Summary, json,
    template::{Escaping, Template},
};
use serde_json::Value;

fn summary() -> Summary {
    Summary::of(&media_sync(), &failed_transfer())
}

fn render(text: &str) -> Result<String, String> {
    let template = Template::compile(text, Escaping::Text).map_err(|error| error.to_string())?;
    template.render(&summary()).map_err(|error| error.to_string())
}

#[test]
fn the_json_report_holds_the_whole_story() {
    insta::assert_snapshot!(json::report(&summary()));
}

#[test]
fn the_json_report_fits_its_schema_at_the_top() {
    let report: Value = serde_json::from_str(&json::report(&summary())).unwrap();
    let schema = json::schema();
    let known = schema["properties"].as_object().unwrap();
    for key in report.as_object().unwrap().keys() {
        assert!(known.contains_key(key), "`{key}` is not in the schema");
    }
    for key in schema["required"].as_array().unwrap() {
        assert!(report.get(key.as_str().unwrap()).is_some(), "{key} is required");
    }
}

#[test]
fn a_template_sees_the_fields_of_the_json_report() {
    let text = "{{playbook}} {{ending}} {{exit_code}} {{duration took_ms}} {{bytes 1024}}\
                {{#each phases}}{{#each steps}} {{id}}={{status}}{{#if error}}({{error.class}}){{/if}}{{/each}}{{/each}}";
    assert_eq!(
        render(text).unwrap(),
        "media-sync failed 2 41.1 s 1 KiB daemon=ok quiet=ok media=ok digest=ok record=ok \
         transferred=failed(expectation) journal=ok nas_copy=ok"
    );
    assert!(render("{{json counts}}").unwrap().contains("\"planned\": 7"));
}

#[test]
fn a_missing_field_is_an_error_with_its_place() {
    let error = render("one\n  {{nonsense}}").unwrap_err();
    assert!(error.starts_with("line 2, column") && error.contains("nonsense"), "{error}");
    let error = render("{{#if playbook}}").unwrap_err();
    assert!(error.starts_with("line 1"), "{error}");
}

#[test]
fn partials_and_decorators_are_refused_however_they_are_written() {
    for text in [
        "{{> x}}",
        "{{ > x}}",
        "{{~> x}}",
        "{{~ > x}}",
        "{{#> x}}{{/x}}",
        "{{# > x}}{{/x}}",
        "{{~#~> x}}{{/x}}",
        "{{#*inline \"a\"}}{{> a}}{{/inline}}{{> a}}",
        "{{# *inline \"a\"}}{{/inline}}",
        "{{* d}}",
        "{{\n*\nd}}",
        "{{{{> x}}}}",
        "{{!-- {{> hidden}} --}}",
    ] {
        let error = Template::compile(text, Escaping::Text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.message.contains("are not allowed"), "{text}: {error}");
    }
}

#[test]
fn a_template_that_would_recurse_deep_is_refused() {
    let nested = "(".repeat(5_000);
    let blocks = "{{#if playbook}}".repeat(5_000) + &"{{/if}}".repeat(5_000);
    let long = format!("{{{{json {}}}}}", "x ".repeat(3_000));
    let fooled = format!("{{{{json \"}}}}\" {nested}}}}}");
    for text in [format!("{{{{json {nested}"), blocks, long, fooled, "x".repeat(300_000)] {
        assert!(Template::compile(&text, Escaping::Text).is_err(), "{}…", &text[..40]);
    }
    let deep = "{{#if playbook}}".repeat(200) + "deep" + &"{{/if}}".repeat(200);
    assert_eq!(render(&deep).unwrap(), "deep");
}

#[test]
fn blocks_that_multiply_and_write_nothing_end() {
    let each = "{{#each @root.phases}}{{#each @root.phases}}";
    let end = "{{/each}}{{/each}}";
    for inner in [
        "",
        "{{#if (eq @root.phases @root.phases)}}{{/if}}",
        "{{#if playbook}}{{else}}{{#if playbook}}{{/if}}{{/if}}",
    ] {
        let text = each.repeat(20) + inner + &end.repeat(20);
        let error = render(&text).unwrap_err();
        assert!(error.starts_with("line 1, column ") && error.contains("loop too often"), "{inner}: {error}");
    }
    let template = Template::compile(&(each.repeat(20) + &end.repeat(20)), Escaping::Text).unwrap();
    for _ in 0..2 {
        assert!(template.render(&summary()).unwrap_err().hint.unwrap().contains("loop over less"));
    }
}

#[test]
fn a_report_without_bound_is_cut_off() {
    let each = "{{#each @root.phases}}{{#each @root.phases}}";
    let text = each.repeat(8) + &"{{json @root.phases}}".repeat(20) + &"{{/each}}{{/each}}".repeat(8);
    let error = render(&text).unwrap_err();
    assert!(error.contains("grows beyond 64 MiB"), "{error}");
}

#[test]
fn values_are_escaped_as_the_file_needs() {
    let mut plan = media_sync();
    plan.playbook = "<b>'\"&\u{1b}\u{202e}\n媒体".into();
    let summary = Summary::new(&plan);
    let write = |escaping| Template::compile("{{playbook}}", escaping).unwrap().render(&summary).unwrap();
    assert_eq!(write(Escaping::Html), "&lt;b&gt;&#39;&quot;&amp;\\u{1b}\\u{202e}\n媒体");
    assert_eq!(write(Escaping::Text), "<b>'\"&\\u{1b}\\u{202e}\n媒体");
    for (name, escaping) in [
        ("a.html", Escaping::Html),
        ("a.HTM", Escaping::Html),
        ("a.md", Escaping::Text),
        ("a", Escaping::Text),
    ] {
        assert_eq!(Escaping::for_file(name), escaping, "{name}");
    }
}
