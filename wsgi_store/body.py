"""The body of a request inside gunicorn, received where its reader wants it."""

from gunicorn.http import body


class Body(body.Body):  # type: ignore[misc]  # gunicorn has no type hints
    """A body that can also be read into a buffer, past gunicorn's own."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` as far as the body goes, and return how far; less when it broke off."""
        reader = self.reader
        if self.buf.tell() or not isinstance(reader, body.LengthReader):
            data = self.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        # What came together with the head has been received already, and only that is read there:
        # asked for more, gunicorn's reader would receive ahead and copy all that follows.
        filled: int = min(len(buffer), reader.length, reader.unreader.buf.getbuffer().nbytes)
        buffer[:filled] = self._read_reader(filled)
        end = min(len(buffer), filled + reader.length)
        try:
            while filled < end and (count := reader.unreader.sock.recv_into(buffer[filled:end])):
                filled += count
                reader.length -= count
        except BaseException:
            self.failed = True
            raise
        return filled
