//! Compiles the protobuf contracts with protox, so that no `protoc` is needed on the machine.
use std::path::{Path, PathBuf};

use prost::Message as _;

fn proto_files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=dalp");
    println!("cargo:rerun-if-changed=google");
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    proto_files(&root.join("dalp"), &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // The encoded set keeps the method options, which prost's own types would drop.
    std::fs::write(out.join("dalp.bin"), compiler.encode_file_descriptor_set())?;
    let mut set = prost_types_set(&compiler.encode_file_descriptor_set())?;
    // Annotations of HTTP routes are read from the encoded set; nobody needs code for them.
    set.file.retain(|file| file.package() != "google.api");
    tonic_prost_build::configure().include_file("dalp.rs").emit_rerun_if_changed(false).compile_fds(set)?;
    Ok(())
}

fn prost_types_set(bytes: &[u8]) -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    prost_types::FileDescriptorSet::decode(bytes)
}
