//! What a program needs beside itself: nothing at all (a static one), or the libraries that the dynamic linker names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use object::{
    Endianness,
    read::elf::{FileHeader, ProgramHeader as _},
};

use crate::error::{Doing as _, Error};

/// Refuses a program that needs a dynamic linker: an image from nothing has none.
pub(crate) fn require_static(program: &Path) -> Result<(), Error> {
    let bytes = fs::read(program).doing("read", program)?;
    let at = program.display();
    match interpreter(&bytes) {
        Ok(None) => Ok(()),
        Ok(Some(linker)) => Err(Error::Missing(format!(
            "{at} is dynamically linked (it wants {linker}), and an image holds nothing but the program: build static programs with `bash -c '. scripts/lib.sh && build_release'`, and run that `hopcast` or set HOPCAST_BIN_DIR to its directory"
        ))),
        Err(error) => Err(Error::Missing(format!(
            "{at} is not a program of Linux ({error}), so no image can be made from it: set HOPCAST_BIN_DIR to a directory with static programs"
        ))),
    }
}

/// The dynamic linker that a program names, if it names one.
fn interpreter(bytes: &[u8]) -> Result<Option<String>, object::Error> {
    fn of<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Option<String>, object::Error> {
        let header = Elf::parse(bytes)?;
        let endian = header.endian()?;
        for program in header.program_headers(endian, bytes)? {
            if let Some(path) = program.interpreter(endian, bytes)? {
                return Ok(Some(String::from_utf8_lossy(path).into_owned()));
            }
        }
        Ok(None)
    }
    match object::FileKind::parse(bytes)? {
        object::FileKind::Elf32 => of::<object::elf::FileHeader32<Endianness>>(bytes),
        _ => of::<object::elf::FileHeader64<Endianness>>(bytes),
    }
}

/// The libraries and linkers that these programs and modules need, as `ldd` finds them.
pub(crate) fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Error> {
    let output = Command::new("ldd").env("LC_ALL", "C").args(programs).output().map_err(|error| {
        Error::Missing(format!(
            "ldd does not run ({error}): it finds the libraries for the database image (Debian: libc-bin)"
        ))
    })?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// `libpq.so.5 => /lib/libpq.so.5 (0x7f)`, `/lib64/ld-linux.so.2 (0x7f)`, `linux-vdso.so.1 (0x7f)`, `x.so => not found`.
fn parse(text: &str) -> Result<BTreeSet<PathBuf>, Error> {
    let mut found = BTreeSet::new();
    let mut program = "";
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|_| !line.starts_with(char::is_whitespace)) {
            program = name;
            continue;
        }
        let line = line.trim();
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if path.starts_with("not found") {
            return Err(Error::Missing(format!(
                "{program} needs {line}: mend that installation, or set HOPCAST_POSTGRES to another"
            )));
        }
        let path = path.split_once(" (0x").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            found.insert(path.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_and_a_script_are_told_apart() {
        let shell = require_static(Path::new("/bin/sh")).unwrap_err().to_string();
        assert!(shell.contains("dynamically linked") && shell.contains("build_release"), "{shell}");
        let script = require_static(Path::new("/usr/bin/ldd")).unwrap_err().to_string();
        assert!(script.contains("not a program of Linux"), "{script}");
        // The dynamic linker itself is the one program that every machine has without one.
        let linker = libraries(&["/bin/sh".into()]).unwrap();
        let linker = linker.iter().find(|path| path.to_string_lossy().contains("/ld-")).unwrap();
        require_static(linker).unwrap();
    }

    #[test]
    fn reads_what_ldd_writes() {
        let text = "/bin/a:\n\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f12)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f13)\n/bin/b:\n\tstatically linked\n";
        let found: Vec<_> = parse(text).unwrap().into_iter().collect();
        assert_eq!(found, [PathBuf::from("/lib/libz.so.1"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]);
        let error = parse("/bin/a:\n\tlibq.so.1 => not found\n").unwrap_err().to_string();
        assert!(error.starts_with("/bin/a needs libq.so.1 => not found"), "{error}");
    }
}
