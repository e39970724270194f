//! The process's memory: how much there is, and giving back what a burst took.

/// The resident set in bytes, where the system says so.
pub fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_size())
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "glibc's malloc_trim, mallopt, sysconf and madvise have no safe wrapper; the last alone takes a pointer"
)]
mod glibc {
    pub(super) fn trim() {
        // SAFETY: malloc_trim(3) may be called at any time; it takes no pointers.
        unsafe { libc::malloc_trim(0) };
    }

    pub(super) fn one_arena() {
        // SAFETY: mallopt(3) is called before any other thread exists and takes two integers.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }

    pub(super) fn forget_code() {
        unsafe extern "C" {
            // The linker's: where the program's first segment begins, and where its code ends.
            static __executable_start: u8;
            static etext: u8;
        }
        let begin = &raw const __executable_start;
        let len = (&raw const etext).addr() - begin.addr();
        let whole_pages = len - len % usize::try_from(page_size()).unwrap_or(4096);
        // SAFETY: constants and code, mapped from the program's file and never written: neither holds relocations (those are in
        // segments of their own, behind). What madvise(2) takes away of such pages is read from the file again when it is used.
        unsafe { libc::madvise(begin.cast_mut().cast(), whole_pages, libc::MADV_DONTNEED) };
    }

    pub(super) fn page_size() -> u64 {
        // SAFETY: sysconf(3) takes an integer.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(size).unwrap_or(4096)
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn trim() {}
    pub(super) fn one_arena() {}
    pub(super) fn forget_code() {}
    pub(super) fn page_size() -> u64 {
        4096
    }
}

fn page_size() -> u64 {
    glibc::page_size()
}

/// Gives free memory back to the system.
pub fn trim() {
    glibc::trim();
}

/// One arena for all threads: the resolver's short-lived thread must not get its own. Call before any thread starts.
pub fn one_arena() {
    glibc::one_arena();
}

/// Takes the program's code and constants out of the resident set. What is used again comes back from the page cache; what only
/// starting up needed stays away: more than half a megabyte of a peer.
pub(crate) fn forget_code() {
    glibc::forget_code();
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_took_stays_until_it_is_trimmed() {
        let before = resident().unwrap();
        let burst: Vec<Vec<u8>> = (0..64 * 1024).map(|_| vec![1; 1024]).collect();
        let took = resident().unwrap() - before;
        assert!(took >= 64 << 20, "{took}");
        // A block that stays here and there, also at the end: the allocator itself gives nothing back then.
        let kept: Vec<_> =
            burst.into_iter().enumerate().filter(|(at, _)| at % 256 == 255).map(|(_, block)| block).collect();
        let freed = resident().unwrap() - before;
        assert!(freed > took / 4 * 3, "only {freed} of {took} are still here: this test shows nothing");
        trim();
        let trimmed = resident().unwrap().saturating_sub(before);
        assert!(trimmed < took / 4, "{trimmed} of {took} are still here");
        assert_eq!(kept.len(), 256);
    }

    #[test]
    fn code_is_taken_out_of_the_resident_set_and_comes_back() {
        let code = || -> u64 {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let here = code_is_taken_out_of_the_resident_set_and_comes_back as *const () as usize;
            let mut lines = smaps.lines().skip_while(|line| {
                let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
                let bounds = bounds.map(|(from, to)| [from, to].map(|at| usize::from_str_radix(at, 16)));
                !matches!(bounds, Some([Ok(from), Ok(to)]) if (from..to).contains(&here))
            });
            let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().strip_suffix(" kB").unwrap().parse().unwrap()
        };
        let before = code();
        forget_code();
        let after = code();
        assert!(after < before, "{after} kB of code after {before}");
        // And all of it still works.
        what_a_burst_took_stays_until_it_is_trimmed();
    }
}
