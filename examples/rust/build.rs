//! Finds the library with `dynamo-llm config`.
use std::process::Command;

fn main() {
    let output = Command::new("dynamo-llm")
        .args(["config", "--libdir"])
        .output()
        .expect("the command dynamo-llm must be on PATH");
    let folder = String::from_utf8(output.stdout).expect("UTF-8");
    let folder = folder.trim();
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
}
