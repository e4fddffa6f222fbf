//! Writes the API description as JSON, which a browser reads without a parser of its own; tells the
//! commit; and links the allocator's setting into the program.

#[path = "build/commit.rs"]
mod commit;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=openapi.yaml");
    let description: serde_json::Value = serde_yaml_ng::from_str(&fs::read_to_string("openapi.yaml")?)?;
    fs::write(out.join("openapi.json"), description.to_string())?;
    println!("cargo::rerun-if-env-changed=ORDERSTREAM_COMMIT");
    let given = std::env::var("ORDERSTREAM_COMMIT").ok();
    let given = given.filter(|commit| !commit.is_empty());
    // A debug build tells what it is given only: each commit would compile it anew.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let watched = |path: &Path| println!("cargo::rerun-if-changed={}", path.display());
    let found = || {
        if is_release {
            commit::checked_out(Path::new("."), watched)
        } else {
            None
        }
    };
    if let Some(commit) = given.or_else(found) {
        println!("cargo::rustc-env=ORDERSTREAM_COMMIT={commit}");
    }
    // An object, not a library: nothing refers to it, so the linker would drop it from one.
    println!("cargo::rerun-if-changed=src/mmap_threshold.c");
    for object in cc::Build::new()
        .file("src/mmap_threshold.c")
        .try_compile_intermediates()?
    {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
    Ok(())
}
