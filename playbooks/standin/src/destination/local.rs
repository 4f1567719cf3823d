//! A copy on this machine, for a quickstart without a NAS.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use super::{Shipment, TransferError, part_of, same_sum, sha256_of};
use crate::stop::Stop;

pub(super) fn put(base: &Path, shipment: &Shipment<'_>, stop: &Stop) -> Result<String, TransferError> {
    let target = base.join(shipment.target);
    let part = part_of(&target);
    let arrived = copy(shipment, &target, &part, stop);
    if arrived.is_err() {
        // What is half there must not stay; the cause of the failure counts, not this removal's.
        let _ = fs::remove_file(&part);
    }
    arrived
}

fn copy(shipment: &Shipment<'_>, target: &Path, part: &Path, stop: &Stop) -> Result<String, TransferError> {
    let failed = |doing: &str, path: &Path| {
        let head = format!("cannot {doing} `{}`", path.display());
        move |error: std::io::Error| TransferError::Failed(format!("{head}: {error}"))
    };
    let began = Instant::now();
    let folder = target.parent().unwrap_or(target);
    let mut source = File::open(shipment.source).map_err(failed("read", shipment.source))?;
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    let mut copy = File::create(part).map_err(failed("make", part))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        if stop.asked() {
            return Err(TransferError::Stopped);
        }
        if began.elapsed() > shipment.timeout {
            return Err(TransferError::Failed(format!("timed out after {} s", shipment.timeout.as_secs())));
        }
        match source.read(&mut buffer).map_err(failed("read", shipment.source))? {
            0 => break,
            count => copy.write_all(&buffer[..count]).map_err(failed("write", part))?,
        }
    }
    copy.sync_all().map_err(failed("write", part))?;
    let actual = sha256_of(part).map_err(failed("read", part))?;
    match shipment.sha256 {
        Some(expected) if !same_sum(expected, &actual) => {
            Err(TransferError::Checksum { expected: expected.to_owned(), actual })
        }
        _ => fs::rename(part, target).map_err(failed("rename to", target)).map(|()| actual),
    }
}
