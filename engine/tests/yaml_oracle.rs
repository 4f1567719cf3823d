//! What we accept means the same to the oldest YAML reader of the field; it is kept for this test alone.

use engine::playbook::yaml_value;
use serde_json::Value;

fn agree(text: &str) {
    let ours = yaml_value(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let theirs: Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(ours, theirs, "{text}");
}

#[test]
fn the_bundled_playbooks_mean_the_same_to_both() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../playbooks");
    let files = std::fs::read_dir(dir).expect("the playbooks").map(|entry| entry.expect("a file").path());
    let yaml: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(yaml.len() >= 4);
    yaml.iter().for_each(|file| agree(&std::fs::read_to_string(file).expect("UTF-8")));
}

#[test]
fn scalars_and_structures_mean_the_same_to_both() {
    for text in [
        "a: 1\nb: -2\nc: 1.5\nd: true\ne: ~\nf: text\n",
        "a: no\nb: yes\nc: on\nd: 'quoted'\ne: \"esc\\n\\u4f60\"\n",
        "a: 0644\nb: 1_000\nc: 1:30\n",
        "list: [1, [2, {x: y}], {}]\nmap: { a: [], b: {c: d} }\n",
        "a: |\n  two\n  lines\nb: >\n  folded\n  text\n",
        "a: &x { k: v }\nb: *x\n",
        "文: 件\n\"${{ x }}\": \"${{ y }}\"\n",
    ] {
        agree(text);
    }
}
