//! Builds rust/keeper, a static program without libc, for the host's architecture, and leaves it in OUT_DIR to be embedded.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const LINK: [&str; 7] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-Wl,--gc-sections",
    "-Wl,--build-id=none",
    "-Wl,-z,norelro",
    "-Wl,-z,noexecstack",
];

fn main() {
    for watched in [
        "rust/keeper",
        "rust/src/sys",
        "rust/src/removal.rs",
        "rust/src/transfer",
        "rust/src/wire.rs",
        "rust/src/wire",
        "rust/build.rs",
    ] {
        println!("cargo:rerun-if-changed={watched}");
    }
    println!("cargo:rustc-check-cfg=cfg(keeper)");
    println!("cargo:rustc-check-cfg=cfg(test_seams)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pycontainer-keeper");
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(["--edition", "2024", "--crate-name", "pycontainer_keeper", "--crate-type", "bin"]);
    rustc.args(["--target", &env::var("TARGET").expect("cargo sets TARGET")]);
    rustc.args(["--cfg", "keeper", "--check-cfg", "cfg(keeper)", "--check-cfg", "cfg(test_seams)"]);
    if env::var_os("CARGO_FEATURE_TEST_SEAMS").is_some() {
        rustc.args(["--cfg", "test_seams"]);
    }
    for option in
        ["panic=abort", "opt-level=s", "lto=fat", "codegen-units=1", "relocation-model=static", "strip=symbols"]
    {
        rustc.args(["-C", option]);
    }
    rustc.args(["-C", &format!("link-args={}", LINK.join(" "))]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    rustc.arg("-o").arg(&out).arg("rust/keeper/main.rs");
    let status = rustc.status().expect("rustc can be started");
    assert!(status.success(), "the keeper did not compile; see above");
}
