//! Writes the known-bad files that are made: `bad-files FOLDER`, for `tests/bench/check`.

use std::{env, fs, path::PathBuf};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).unwrap_or_default());
    for (name, bytes) in tests::bad::made() {
        fs::write(folder.join(format!("{name}.yaml")), bytes)?;
    }
    Ok(())
}
