"""Bodies in blocks (RFC 7959)."""

from cases_messages import Case
from client import (
    BLOCK1, BLOCK2, CONTENT_FORMAT, DELETE, ETAG, OBSERVE, POST, PUT, SIZE1, SIZE2, TEXT, block, uint,
)

BODY = bytes(index * 7 % 251 for index in range(3000))


class Upload(Case):
    """Block1, section 2.5."""

    def send(self, client, where, number, more, size, body=BODY, options=()):
        part = body[number * size:(number + 1) * size] if more else body[number * size:]
        return client.ask(PUT, where, [(BLOCK1, block(number, more, size)), *options], part)

    def test_a_body_is_put_together(self):
        for size in (16, 64, 1024):
            client = self.client()
            where = f"{self.resource()}/{size}"
            last = (len(BODY) - 1) // size
            for number in range(last):
                answer = self.send(client, where, number, True, size)
                self.assertEqual((answer.status, answer.block(BLOCK1)), ("2.31", (number, True, size)), str(answer))
            answer = self.send(client, where, last, False, size)
            self.assertIn(answer.status, ("2.01", "2.04"))
            self.assertEqual(answer.block(BLOCK1)[:2], (last, False))
            got, number = b"", 0
            while True:
                answer = client.get(where, [(BLOCK2, block(number, size=1024))])
                got += answer.payload
                number += 1
                if not answer.block(BLOCK2)[1]:
                    break
            self.assertEqual(got, BODY)

    def test_nothing_changes_before_the_last_block(self):
        """2.5: the body is processed as a whole."""
        client, where = self.client(), self.resource("before")
        self.assertEqual(self.send(client, where, 0, True, 64).status, "2.31")
        self.assertEqual(client.get(where).payload, b"before")

    def test_a_gap_gets_408(self):
        """2.9.2."""
        client, where = self.client(), self.resource()
        self.assertEqual(self.send(client, where, 0, True, 64).status, "2.31")
        self.assertEqual(self.send(client, where, 2, True, 64).status, "4.08")
        self.assertEqual(self.send(self.client(), where, 1, False, 64, BODY[:100]).status, "4.08")

    def test_a_body_may_be_begun_again(self):
        client, where = self.client(), self.resource()
        for _ in range(2):
            for number in range(2):
                self.assertEqual(self.send(client, where, number, True, 64, BODY[:180]).status, "2.31")
        self.assertIn(self.send(client, where, 2, False, 64, BODY[:180]).status, ("2.01", "2.04"))
        self.assertEqual(client.get(where).payload, BODY[:180])

    def test_two_clients_do_not_mix(self):
        where = self.resource()
        bodies = {self.client(): bytes([65 + number]) * 100 for number in range(2)}
        for number in range(2):
            for client, body in bodies.items():
                answer = self.send(client, where, number, number == 0, 64, body)
                self.assertEqual(answer.status, "2.31" if number == 0 else "2.04", str(answer))
        client, body = list(bodies.items())[-1]
        self.assertEqual(client.get(where).payload, body)

    def test_one_block_alone_is_a_body(self):
        client, where = self.client(), self.resource()
        answer = self.send(client, where, 0, False, 64, b"short")
        self.assertEqual((answer.status, answer.block(BLOCK1)[:2]), ("2.04", (0, False)), str(answer))
        self.assertEqual(client.get(where).payload, b"short")

    def test_a_block_that_is_not_full_is_refused(self):
        """2.2: only the last may be shorter."""
        answer = self.client().ask(PUT, self.resource(), [(BLOCK1, block(0, True, 64))], b"x" * 63)
        self.assertEqual(answer.status, "4.00", str(answer))

    def test_the_reserved_size_is_refused(self):
        """2.2: 7."""
        client, where = self.client(), self.resource()
        self.assertEqual(client.ask(PUT, where, [(BLOCK1, uint(0x0F))], b"x" * 1024).status, "4.00")
        self.assertEqual(client.get(where, [(BLOCK2, uint(0x07))]).status, "4.00")

    def test_what_is_announced_to_be_too_large_gets_413(self):
        """2.9.3 and 4: Size1 of 2 GB."""
        client = self.client()
        options = [(SIZE1, uint(2_000_000_000))]
        answer = self.send(client, self.resource(), 0, True, 1024, options=options)
        self.assertEqual(answer.status, "4.13", str(answer))

    def test_a_post_in_blocks_is_done_once(self):
        client = self.client()
        where = self.resource()
        for number, more in ((0, True), (1, False)):
            answer = client.ask(POST, where, [(BLOCK1, block(number, more, 64))], BODY[number * 64:number * 64 + 64])
        self.assertEqual(answer.status, "2.04", str(answer))
        self.assertEqual(client.get(where).payload, BODY[:128])


class Download(Case):
    """Block2, section 2.4."""

    def large(self):
        client = self.client()
        where = self.resource()
        for number, at in enumerate(range(0, len(BODY), 1024)):
            options = [(BLOCK1, block(number, at + 1024 < len(BODY), 1024)), (CONTENT_FORMAT, uint(TEXT))]
            client.ask(PUT, where, options, BODY[at:at + 1024])
        return where

    def test_the_first_answer_is_the_first_block(self):
        """2.4 and 4: it says that there is more, and should say how much."""
        answer = self.client().get(self.large())
        number, more, size = answer.block(BLOCK2)
        self.assertEqual((answer.status, number, more), ("2.05", 0, True), str(answer))
        self.assertEqual(answer.payload, BODY[:size])
        self.assertIn(answer.number(SIZE2), (None, len(BODY)))
        self.assertIsNotNone(answer.option(ETAG))

    def test_every_block_in_every_size(self):
        client, where = self.client(), self.large()
        for size in (16, 32, 64, 128, 256, 512, 1024):
            got, etags = b"", set()
            for number in range((len(BODY) + size - 1) // size):
                answer = client.get(where, [(BLOCK2, block(number, size=size))])
                end = (number + 1) * size >= len(BODY)
                self.assertEqual((answer.status, answer.block(BLOCK2)), ("2.05", (number, not end, size)), str(answer))
                got += answer.payload
                etags.add(answer.option(ETAG))
            self.assertEqual(got, BODY)
            self.assertEqual(len(etags), 1)

    def test_blocks_in_any_order(self):
        """2.4: a server need not remember anything."""
        client, where = self.client(), self.large()
        for number in (5, 0, 3, 46, 1):
            answer = client.get(where, [(BLOCK2, block(number, size=64))])
            self.assertEqual(answer.payload, BODY[number * 64:number * 64 + 64])

    def test_behind_the_end_is_an_error(self):
        answer = self.client().get(self.large(), [(BLOCK2, block(47, size=64))])
        self.assertEqual(answer.code >> 5, 4, str(answer))

    def test_a_short_body_in_smaller_blocks(self):
        client, where = self.client(), self.resource("x" * 40)
        answer = client.get(where, [(BLOCK2, block(0, size=16))])
        self.assertEqual((answer.payload, answer.block(BLOCK2)), (b"x" * 16, (0, True, 16)))
        answer = client.get(where, [(BLOCK2, block(2, size=16))])
        self.assertEqual((answer.payload, answer.block(BLOCK2)), (b"x" * 8, (2, False, 16)))

    def test_an_etag_changes_with_the_body(self):
        """2.4: so that no one puts blocks of two bodies together."""
        client, where = self.client(), self.large()
        first = client.get(where, [(BLOCK2, block(0, size=64))]).option(ETAG)
        client.put(where, BODY[::-1][:1024])
        self.assertNotEqual(client.get(where, [(BLOCK2, block(1, size=64))]).option(ETAG), first)

    def test_a_notification_has_the_first_block(self):
        """2.6 and 3.5: the rest is fetched without Observe."""
        client, where = self.client(), self.large()
        first = client.observe(where)
        self.assertIsNotNone(first.option(OBSERVE), str(first))
        self.assertTrue(first.block(BLOCK2)[1])
        changed = BODY[::-1]
        other = self.client()
        for number, at in enumerate(range(0, len(changed), 1024)):
            other.ask(PUT, where, [(BLOCK1, block(number, at + 1024 < len(changed), 1024))], changed[at:at + 1024])
        told = client.notification(first.token)
        number, more, size = told.block(BLOCK2)
        self.assertEqual((number, more, told.payload), (0, True, changed[:size]), str(told))
        rest = client.get(where, [(BLOCK2, block(1, size=size))])
        self.assertEqual((rest.payload, rest.option(OBSERVE)), (changed[size:2 * size], None))
        self.assertEqual(rest.option(ETAG), told.option(ETAG))
        self.assertEqual(other.ask(DELETE, where).status, "2.02")
        self.assertEqual(told.code, first.code)
