//! Writes the API description a second time, as JSON: what a browser reads without a parser of its own.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=openapi.yaml");
    let yaml = std::fs::read_to_string("openapi.yaml")?;
    let description: serde_json::Value = serde_yaml_ng::from_str(&yaml)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("openapi.json");
    Ok(std::fs::write(out, description.to_string())?)
}
