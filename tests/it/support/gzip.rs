//! Compressed bodies.

/// `hello`, stored.
pub const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\xfa\xffhello\x86\xa6\x10\x36\x05\0\0\0";

/// A gzip stream of zeros: one literal, then copies of 258 bytes from one byte back, each 13 bits long (RFC 1951 §3.2.6).
pub fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    let mut push = |code: u32, length: u32| bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    push(0b0011_0000, 8);
    for _ in 0..size / 258 {
        push(0b1100_0101, 8);
        push(0, 5);
    }
    push(0, 7);
    let bytes = bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
    GZIP[..10].iter().copied().chain(bytes).chain([0; 8]).collect()
}
