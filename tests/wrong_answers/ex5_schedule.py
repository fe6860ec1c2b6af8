"""Forgets the registers for the operands."""


def register_tile(registers: int) -> tuple[int, int]:
    tiles = [
        (rows, vectors)
        for rows in range(1, registers)
        for vectors in range(1, registers)
        if rows * vectors <= registers
    ]
    return max(tiles, key=lambda tile: (tile[0] * tile[1] / sum(tile), tile[0] * tile[1], tile[0]))
