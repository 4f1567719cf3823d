//! What is handed to a command arrives as it is, whatever it is.

use super::{bed, sh};
use engine::host::{Exec, Stdin};
use std::{collections::BTreeMap, fs};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_arrive_as_they_are() {
    let bed = bed().await;
    let hostile = [
        "$(touch X)",
        "`touch X`",
        "; touch X",
        "a\nb",
        "'\"\\",
        "\\0101",
        "-rf",
        "",
        "*",
        "!!",
        "%s",
        "文件 名",
        "NONCE",
        "DOG",
    ];
    let mut command = Exec::new(["printf", "%s|"]);
    command.argv.extend(hostile.map(str::to_owned));
    command.dir = Some(bed.dir.path().display().to_string());
    let output = bed.exec(command).await.expect("runs");
    assert_eq!(output.stdout_text(), hostile.map(|word| format!("{word}|")).concat());
    assert!(!bed.dir.path().join("X").exists());

    let mut command = sh("pwd; printf %s \"$A_B\"");
    command.env = BTreeMap::from([("A_B".to_owned(), "$(touch X)\n'".to_owned())]);
    let odd = bed.at("a $(b) 'c'\n文");
    fs::create_dir(&odd).expect("made");
    command.dir = Some(odd.clone());
    let output = bed.exec(command).await.expect("runs");
    assert_eq!(output.stdout_text(), format!("{odd}\n$(touch X)\n'"));
}

/// Every character of one and of two bytes, and of the others such that every byte that UTF-8 knows is there: 1 to 0x7F,
/// 0x80 to 0xBF behind another, 0xC2 to 0xF4 before.
fn every_byte() -> String {
    let first = (1..0x800).chain((0x800..0xD800).step_by(0x3F)).chain((0xE000..0x11_0000).step_by(0x3FF));
    first.filter_map(char::from_u32).collect()
}

/// Far more of what has to be quoted than one argument of the login shell could hold quoted.
fn hundred_kib() -> String {
    let word = "'\"\\$`!\n(){}[]<>|&;*?~#%= \t\r\u{1}\u{7f}文-";
    word.chars()
        .cycle()
        .scan(0, |length, c| {
            *length += c.len_utf8();
            (*length <= 100 * 1024).then_some(c)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives_in_arguments_variables_and_stdin() {
    let bed = bed().await;
    let every = every_byte();
    let seen: std::collections::BTreeSet<u8> = every.bytes().collect();
    assert_eq!(seen.len(), 255 - 2 - 11, "all but 0, and C0, C1 and F5 to FF, which are in no text");
    let mut words = vec![
        every.clone(),
        hundred_kib(),
        String::new(),
        "--".into(),
        "-rf".into(),
        "\n".into(),
        "\\".into(),
    ];
    words.extend((1..=0x7F_u8).map(|byte| char::from(byte).to_string()));
    // In pairs: what one byte does to the next, such as a backslash.
    let special = "\\'\"$`!\n*~&|;<>(){}[]#%^-=@+?: \t\r";
    words.extend(special.chars().flat_map(|a| special.chars().map(move |b| format!("{a}{b}"))));
    words.push(String::new());
    let printed = words.iter().map(|word| format!("{word}\0")).collect::<String>();
    for stdin in [Stdin::Null, Stdin::Bytes(printed.clone().into_bytes())] {
        let tail = if let Stdin::Null = stdin { "" } else { &printed };
        let mut command = Exec::new(["sh", "-c", "printf '%s\\0' \"$@\"; printf %s \"$EVERY\"; cat", "sh"]);
        command.argv.extend(words.iter().cloned());
        command.env = BTreeMap::from([("EVERY".to_owned(), every.clone())]);
        command.keep = 4 << 20;
        let output = bed.exec(command.stdin(stdin)).await.expect("runs");
        let want = format!("{printed}{every}{tail}").into_bytes();
        let at = output.stdout.iter().zip(&want).position(|(got, want)| got != want);
        assert!(output.stdout == want, "differs at {at:?} of {} and {}", output.stdout.len(), want.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_command_ends_when_it_is_cancelled_like_any_other() {
    let bed = bed().await;
    let file = bed.at("pid");
    let mut command = sh(&format!("echo $$ > {file}; exec sleep 1000"));
    command.argv.push(hundred_kib());
    let (source, cancel) = engine::host::CancelSource::new();
    let host = bed.host.clone();
    let running = tokio::spawn(async move { host.exec(command, &cancel).await });
    crate::testing::until("it runs", async || super::pids(&file).len() == 1).await;
    source.cancel();
    let error = running.await.expect("no panic").expect_err("cancelled");
    assert!(error.class == engine::ErrorClass::Cancelled && !error.outcome_unknown, "{error:?}");
    assert!(!super::pids(&file).into_iter().any(super::alive));
}
