//! Writes the API description as JSON, which a browser reads without a parser of its own; tells the
//! commit; and links the allocator's setting into the program.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=openapi.yaml");
    let description: serde_json::Value = serde_yaml_ng::from_str(&fs::read_to_string("openapi.yaml")?)?;
    fs::write(out.join("openapi.json"), description.to_string())?;
    tell_commit();
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

/// Passes the commit on as `ORDERSTREAM_COMMIT`: the variable of the build, else what is checked
/// out for a release build (each commit would compile a debug build anew). Not set where neither
/// is known.
fn tell_commit() {
    println!("cargo::rerun-if-env-changed=ORDERSTREAM_COMMIT");
    let given = std::env::var("ORDERSTREAM_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(commit) = given.or_else(|| if is_release { checked_out() } else { None }) {
        println!("cargo::rustc-env=ORDERSTREAM_COMMIT={commit}");
    }
}

/// The commit of HEAD. Only files that exist are watched: cargo takes one that does not for changed.
fn checked_out() -> Option<String> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        println!("cargo::rerun-if-changed={}", path.display());
        Some(text)
    };
    // In a worktree `.git` is a file that names the folder, and branches are in the common one.
    let folder = match fs::read_to_string(".git") {
        Ok(text) => PathBuf::from(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => PathBuf::from(".git"),
    };
    let common = match read(&folder.join("commondir")) {
        Some(path) => folder.join(path.trim()),
        None => folder.clone(),
    };
    let head = read(&folder.join("HEAD"))?;
    let Some(branch) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned()); // detached
    };
    if let Some(commit) = read(&common.join(branch)) {
        return Some(commit.trim().to_owned());
    }
    let packed = read(&common.join("packed-refs"))?;
    let commit = packed
        .lines()
        .find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '));
    commit.map(str::to_owned)
}
