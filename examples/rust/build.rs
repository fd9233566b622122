//! Finds the library: in the folder DYNAMO_LLM_LIBDIR, else where `dynamo-llm config` says.
use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=DYNAMO_LLM_LIBDIR");
    let folder = env::var("DYNAMO_LLM_LIBDIR").unwrap_or_else(|_| {
        let config = Command::new("dynamo-llm")
            .args(["config", "--libdir"])
            .output();
        let output = config.expect("neither DYNAMO_LLM_LIBDIR nor the command dynamo-llm");
        String::from_utf8(output.stdout).expect("UTF-8")
    });
    let folder = folder.trim();
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
}
