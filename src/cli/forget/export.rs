//! The file of `forget --export`: a list of records in JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::cli::Failure;
use crate::cli::backend::Backend;
use crate::cli::stepper::all;
use crate::operations::ExportPerson;

/// Writes all that is held of the customer to a new file that only its user may read; answers the number
/// of records. A file that is not complete is removed.
///
/// # Errors
/// The file exists or cannot be written, a store does not answer, or it is interrupted.
pub(super) async fn write(backend: &Backend, request: ExportPerson, path: &Path) -> Result<u64, Failure> {
    let failed = |error: io::Error| {
        Failure::Unavailable(format!(
            "{}: {error}; name a file that can be written. Nothing was changed",
            path.display()
        ))
    };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            return Failure::Usage(format!(
                "error: {} exists: name a new file for --export\n",
                path.display()
            ));
        }
        failed(error)
    })?;
    let written = fill(backend, request, BufWriter::new(file), failed).await;
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

async fn fill(
    backend: &Backend,
    mut request: ExportPerson,
    mut file: BufWriter<File>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let mut count = 0;
    let is_complete = all(async || {
        let step = backend.call(request.clone()).await?;
        for record in &step.records {
            file.write_all(if count == 0 { b"[" } else { b",\n" })
                .map_err(&failed)?;
            serde_json::to_writer(&mut file, record).map_err(|error| failed(error.into()))?;
            count += 1;
        }
        request.next = step.next;
        Ok(request.next.is_some())
    });
    if !is_complete.await? {
        return Err(Failure::Unavailable(
            "interrupted: nothing was exported or changed".to_owned(),
        ));
    }
    file.write_all(if count == 0 { b"[]\n" } else { b"]\n" })
        .map_err(&failed)?;
    // What it holds may be erased next.
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(&failed)?;
    Ok(count)
}
