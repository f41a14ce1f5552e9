// Descriptors on frames, clause 13: a client by hand, one call after the other.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

const kindFds = 9

// Descriptors of one reception, and the offsets of the stream that it covered (clause 13.6).
type arrival struct {
	start, end int
	fds        []int
}

type fdConn struct {
	socket   *net.UnixConn
	received []byte
	// How much of the stream was read in frames.
	at       int
	arrivals []arrival
	calls    uint32
}

func dialWithFds(path string) (*fdConn, error) {
	socket, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	c := &fdConn{socket: socket}
	mine := own
	mine.features = 1
	// Clause 13.1: four bytes more.
	greeting := append(mine.encode(), 16, 0, 0, 0)
	binary.LittleEndian.PutUint16(greeting[10:], 44)
	if _, err := socket.Write(greeting); err != nil {
		return nil, err
	}
	theirs, err := c.take(44)
	if err != nil {
		return nil, err
	}
	most := binary.LittleEndian.Uint16(theirs[40:])
	return c, first(want("features", theirs[12], 1), want("takes some", most > 0, true))
}

// The next bytes of the stream.
func (c *fdConn) take(count int) ([]byte, error) {
	for len(c.received) < c.at+count {
		buffer, control := make([]byte, 4096), make([]byte, syscall.CmsgSpace(253*4))
		n, controls, _, _, err := c.socket.ReadMsgUnix(buffer, control)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.EOF
		}
		start := len(c.received)
		c.received = append(c.received, buffer[:n]...)
		messages, err := syscall.ParseSocketControlMessage(control[:controls])
		if err != nil {
			return nil, err
		}
		for _, message := range messages {
			fds, err := syscall.ParseUnixRights(&message)
			if err != nil {
				return nil, err
			}
			c.arrivals = append(c.arrivals, arrival{start, start + n, fds})
		}
	}
	c.at += count
	return c.received[c.at-count : c.at], nil
}

// The next frame, and its descriptors.
func (c *fdConn) frame() (f frame, fds []int, err error) {
	at := c.at
	head, err := c.take(12)
	if err != nil {
		return f, nil, err
	}
	f.stream = binary.LittleEndian.Uint32(head[4:])
	f.kind, f.flags = head[8], head[9]
	count := int(binary.LittleEndian.Uint16(head[10:]))
	if f.content, err = c.take(int(binary.LittleEndian.Uint32(head))); err != nil || count == 0 {
		return f, nil, err
	}
	for index, came := range c.arrivals {
		if at >= came.start && at < came.end {
			c.arrivals = append(c.arrivals[:index], c.arrivals[index+1:]...)
			return f, came.fds, want("descriptors", len(came.fds), count)
		}
	}
	return f, nil, errors.New("FDS without its descriptors")
}

func fdsFrame(stream uint32, count uint16, firstIndex uint32, loss byte) []byte {
	content := append(binary.LittleEndian.AppendUint32(nil, firstIndex), loss)
	bytes := frame{stream: stream, kind: kindFds, content: content}.encode()
	binary.LittleEndian.PutUint16(bytes[10:], count)
	return bytes
}

// Sends files with a call of Swap that mentions them, in one message (clause 13.5); what came back and the call's status.
func (c *fdConn) swap(texts []string, announced uint16, loss byte) (back []string, status, text string, err error) {
	c.calls++
	stream := c.calls << 16
	var message []byte
	var fds []int
	for index, content := range texts {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, "", "", err
		}
		defer reader.Close()
		io.WriteString(writer, content)
		writer.Close()
		fds = append(fds, int(reader.Fd()))
		message = append(message, numberField(1, uint64(index))...)
	}
	bytes := fdsFrame(stream, announced, 0, loss)
	head := appendBytes([]byte{0}, service+"Swap")
	bytes = append(bytes, frame{stream: stream, kind: kindHeaders, content: head}.encode()...)
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	bytes = append(bytes, frame{stream: stream, kind: kindData, flags: flagEnd, content: body}.encode()...)
	var control []byte
	if len(fds) > 0 {
		control = syscall.UnixRights(fds...)
	}
	if n, _, err := c.socket.WriteMsgUnix(bytes, control, nil); err != nil || n != len(bytes) {
		return nil, "", "", fmt.Errorf("sent %d of %d: %v", n, len(bytes), err)
	}
	for {
		f, came, err := c.frame()
		if err != nil {
			return nil, "", "", err
		}
		for _, fd := range came {
			file := os.NewFile(uintptr(fd), "came")
			content, err := io.ReadAll(file)
			file.Close()
			if err != nil {
				return nil, "", "", err
			}
			back = append(back, string(content))
		}
		if f.kind != kindTrailers && f.kind != kindHeaders {
			continue
		}
		fields, err := (&reader{f.content}).fields()
		if err != nil {
			return nil, "", "", err
		}
		code := values(fields, "grpc-status")
		switch {
		case f.kind == kindTrailers && len(f.content) == 0:
			return back, "0", "", nil
		case len(code) == 1:
			return back, code[0], strings.Join(values(fields, "grpc-message"), " "), nil
		}
	}
}

// Files go with their call and come back; what fails, fails alone.
func files(path string) error {
	c, err := dialWithFds(path)
	if err != nil {
		return err
	}
	defer c.socket.Close()
	for range 3 {
		texts := []string{"one", "two", "three"}
		back, status, text, err := c.swap(texts, 3, 0)
		if err := first(err, want("status", status+" "+text, "0 "), want("files", back, texts)); err != nil {
			return err
		}
	}
	for _, wrong := range []struct {
		announced    uint16
		loss         byte
		texts        []string
		status, says string
	}{
		{2, 0, []string{"x"}, "13", "announced"},
		{1, 1, nil, "8", "ETOOMANYREFS"},
		{1, 2, nil, "9", "EPERM"},
	} {
		_, status, text, err := c.swap(wrong.texts, wrong.announced, wrong.loss)
		says := strings.Contains(text, wrong.says)
		if err := first(err, want("status", status, wrong.status), want(text, says, true)); err != nil {
			return err
		}
		back, status, _, err := c.swap([]string{"well"}, 1, 0)
		if err := first(err, want("status after it", status, 0), want("files", back, []string{"well"})); err != nil {
			return err
		}
	}
	return nil
}
