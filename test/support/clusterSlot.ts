/** Which of a Cluster's 16384 slots a key belongs to. */

export const slotCount = 16_384

/** As CLUSTER KEYSLOT has it: the CRC16 of what stands between the first `{` and the `}` after it, or of the whole key. */
export const slotOf = (key: string): number => {
  const open = key.indexOf("{")
  const close = key.indexOf("}", open + 1)
  const hashed = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key
  let crc = 0
  for (const byte of Buffer.from(hashed)) {
    crc ^= byte << 8
    // The polynomial of CRC16-XMODEM.
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021
    crc &= 0xffff
  }
  return crc % slotCount
}
