// A client of the nigh wire that knows docs/wire/nigh.md and nothing else, against `nigh serve`. One line per check.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const service = "/nigh.diag.v1.Diag/"

var failed bool

func check(name string, run func() error) {
	done := make(chan error, 1)
	go func() { done <- run() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(30 * time.Second):
		err = fmt.Errorf("no end")
	}
	if err != nil {
		failed = true
		fmt.Printf("not ok - go-wire: %s: %v\n", name, err)
		return
	}
	fmt.Printf("ok - go-wire: %s\n", name)
}

// Protobuf by hand: a field of bytes, a field of a number.
func bytesField(number int, value []byte) []byte {
	return append(binary.AppendUvarint([]byte{byte(number<<3 | 2)}, uint64(len(value))), value...)
}

func numberField(number int, value uint64) []byte {
	return binary.AppendUvarint([]byte{byte(number << 3)}, value)
}

// What of the message's fields is needed, by number: the last value of each.
func fieldsOf(message []byte) map[int][]byte {
	found := map[int][]byte{}
	for len(message) > 0 {
		tag, size := binary.Uvarint(message)
		if size <= 0 {
			return found
		}
		message = message[size:]
		value, size := binary.Uvarint(message)
		if size <= 0 {
			return found
		}
		number := int(tag >> 3)
		switch tag & 7 {
		case 0:
			found[number] = message[:size]
			message = message[size:]
		case 2:
			message = message[size:]
			found[number] = message[:value]
			message = message[value:]
		default:
			return found
		}
	}
	return found
}

func (c *conn) unary(method string, message []byte, fields ...field) (*call, []byte, error) {
	o, err := c.open("", service+method, fields, false)
	if err != nil {
		return nil, nil, err
	}
	if err := o.send(message, true); err != nil {
		return nil, nil, err
	}
	answer, err := o.receive()
	if err == nil && answer != nil {
		_, err = o.receive()
	}
	return o, answer, err
}

func want(what string, got, wanted any) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("%s is %v, not %v", what, got, wanted)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func echoes(c *conn) error {
	for range 3 {
		// The path is sent once, then its number.
		o, answer, err := c.unary("Echo", bytesField(1, []byte("hello")))
		if err != nil {
			return err
		}
		if err := first(want("status", o.status(), "0"), want("text", string(fieldsOf(answer)[1]), "hello")); err != nil {
			return err
		}
	}
	return want("paths", len(c.paths), 1)
}

func metadata(c *conn) error {
	binaryValue := base64.RawStdEncoding.EncodeToString([]byte{0, 255, 7})
	o, _, err := c.unary("Echo", nil,
		field{"x-nigh-echo-a", "1"}, field{"x-nigh-echo-a", "2"}, field{"x-nigh-echo-b-bin", binaryValue})
	if err != nil {
		return err
	}
	return first(
		want("values", values(o.head, "x-nigh-echo-a"), []string{"1", "2"}),
		want("binary value", values(o.head, "x-nigh-echo-b-bin"), []string{binaryValue}),
		want("status", o.status(), "0"))
}

// Status and metadata of a call that fails, in the trailers.
func trailers(c *conn) error {
	message := append(numberField(1, 9), bytesField(2, []byte("not now"))...)
	o, _, err := c.unary("Fail", message, field{"x-nigh-echo-why", "because"})
	if err != nil {
		return err
	}
	all := append(append([]field{}, o.head...), o.trailers...)
	return first(
		want("status", o.status(), "9"),
		want("message", values(o.trailers, "grpc-message"), []string{"not%20now"}),
		want("metadata found", len(values(all, "x-nigh-echo-why")) > 0, true))
}

func unknownMethod(c *conn) error {
	o, answer, err := c.unary("NoSuch", nil)
	return first(err, want("status", o.status(), "12"), want("answer", answer == nil, true))
}

// More than all windows, both ways, in messages that are longer than frames.
func flowControl(c *conn) error {
	message := append(numberField(1, 40), numberField(2, 100_000)...)
	o, err := c.open("", service+"Download", nil, false)
	if err != nil {
		return err
	}
	if err := o.send(message, true); err != nil {
		return err
	}
	got := 0
	for {
		reply, err := o.receive()
		if err != nil {
			return err
		}
		if reply == nil {
			break
		}
		got += len(fieldsOf(reply)[2])
	}
	if err := first(want("bytes", got, 4_000_000), want("status", o.status(), "0"), want("cut into frames", o.frames > 200, true)); err != nil {
		return err
	}
	up, err := c.open("", service+"Upload", nil, false)
	if err != nil {
		return err
	}
	for index := range 40 {
		if err := up.send(bytesField(1, make([]byte, 100_000)), index == 39); err != nil {
			return err
		}
	}
	answer, err := up.receive()
	if err != nil {
		return err
	}
	bytes, _ := binary.Uvarint(fieldsOf(answer)[2])
	return first(want("bytes up", bytes, 4_000_000))
}

// A reader that takes nothing gets no more than the window and one frame, and the connection serves others meanwhile.
func unread(c *conn) error {
	o, err := c.open("", service+"Download", nil, false)
	if err != nil {
		return err
	}
	if err := o.send(append(numberField(1, 1000), numberField(2, 60_000)...), true); err != nil {
		return err
	}
	if err := c.until(func() bool { return len(o.inbox) >= int(own.streamWindow) }); err != nil {
		return err
	}
	for range 3 {
		if _, _, err := c.unary("Echo", nil); err != nil {
			return err
		}
	}
	most := int(own.streamWindow + own.frameBytes)
	if err := want("no more than credit", len(o.inbox) < most, true); err != nil {
		return err
	}
	// Cancelled, it gives back what nobody reads: else the connection's credit would be gone.
	c.mu.Lock()
	err = c.consumed(nil, len(o.inbox))
	c.mu.Unlock()
	return first(err, o.cancel(), echoes2(c))
}

func echoes2(c *conn) error {
	o, _, err := c.unary("Echo", bytesField(1, []byte("after")))
	return first(err, want("status", o.status(), "0"))
}

func conversation(c *conn) error {
	o, err := c.open("", service+"EchoStream", nil, false)
	if err != nil {
		return err
	}
	for index := range 10 {
		text := fmt.Sprint("line ", index)
		if err := o.send(bytesField(1, []byte(text)), index == 9); err != nil {
			return err
		}
		reply, err := o.receive()
		if err := first(err, want("reply", string(fieldsOf(reply)[1]), text)); err != nil {
			return err
		}
	}
	last, err := o.receive()
	return first(err, want("end", last == nil, true), want("status", o.status(), "0"))
}

// The handler's end shows in the server's counters.
func cancel(c *conn) error {
	o, err := c.open("", service+"Sleep", nil, false)
	if err != nil {
		return err
	}
	if err := o.send(bytesField(1, numberField(1, 3600)), true); err != nil {
		return err
	}
	if err := o.cancel(); err != nil {
		return err
	}
	slot := o.stream & 0xffff
	again, _, err := c.unary("Echo", nil)
	return first(err, want("slot", again.stream&0xffff, slot), want("another generation", again.stream != o.stream, true))
}

func deadline(c *conn) error {
	o, _, err := c.unary("Sleep", bytesField(1, numberField(1, 3600)), field{"grpc-timeout", "50m"})
	return first(err, want("status", o.status(), "4"))
}

func together(c *conn) error {
	var group sync.WaitGroup
	errs := make(chan error, 64)
	for index := range 64 {
		group.Add(1)
		go func() {
			defer group.Done()
			text := fmt.Sprint(index)
			o, answer, err := c.unary("Echo", bytesField(1, []byte(text)))
			errs <- first(err, want("text", string(fieldsOf(answer)[1]), text), want("status", o.status(), "0"))
		}()
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func plain(c *conn) error {
	o, err := c.open("POST", service+"Echo", []field{{"content-type", "application/grpc"}, {"te", "trailers"}}, false)
	if err != nil {
		return err
	}
	if err := o.send(bytesField(1, []byte("spelled out")), true); err != nil {
		return err
	}
	answer, err := o.receive()
	return first(err, want("text", string(fieldsOf(answer)[1]), "spelled out"), want("HTTP status", o.http, 200))
}

func ping(c *conn) error {
	if err := c.write(frame{kind: kindPing, content: []byte("12345678")}); err != nil {
		return err
	}
	if err := c.write(frame{kind: 200, flags: 0xff, stream: 77, content: []byte("of a later version")}); err != nil {
		return err
	}
	return first(c.until(func() bool { return len(c.pongs) > 0 }), want("PONG", c.pongs, []string{"12345678"}), echoes2(c))
}

// A violation ends its connection, with a reason; a greeting longer than known and of a later version does not.
func violation(path string) error {
	c, err := dial(path)
	if err != nil {
		return err
	}
	// DATA of a call that was never opened is one that is over; TRAILERS are never a client's.
	if _, err := c.open("", service+"Upload", nil, false); err != nil {
		return err
	}
	if err := c.write(frame{kind: kindTrailers, stream: 1 << 16}); err != nil {
		return err
	}
	err = c.until(func() bool { return c.leaving })
	if err != nil {
		return err
	}
	if err := want("GOAWAY's code", c.reason[:1], "1"); err != nil {
		return err
	}
	if c.until(func() bool { return false }) == nil {
		return fmt.Errorf("the connection goes on")
	}
	return nil
}

func later(path string) error {
	socket, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer socket.Close()
	hello := own
	hello.version, hello.features = 9, 0x80000000
	bytesOf := hello.encode()
	binary.LittleEndian.PutUint16(bytesOf[10:], 50)
	bytesOf = append(bytesOf, bytes.Repeat([]byte{0xee}, 10)...)
	// In two pieces, and the second later.
	if _, err := socket.Write(bytesOf[:33]); err != nil {
		return err
	}
	if _, err := socket.Write(bytesOf[33:]); err != nil {
		return err
	}
	answer, err := readGreeting(socket)
	return first(err, want("version", answer.version, 1), want("unknown features", answer.features&0x80000000, 0))
}

// Stopping: GOAWAY, the running call is finished, the connection ends.
func drain(c *conn) error {
	o, err := c.open("", service+"Sleep", nil, false)
	if err != nil {
		return err
	}
	if err := o.send(bytesField(1, numberField(1, 1)), true); err != nil {
		return err
	}
	if _, _, err := c.unary("Echo", nil); err != nil {
		return err
	}
	fmt.Println("stop the server")
	if err := c.until(func() bool { return c.leaving }); err != nil {
		return err
	}
	if err := want("GOAWAY's code", c.reason[:1], "0"); err != nil {
		return err
	}
	_, err = o.receive()
	if err := first(err, want("status", o.status(), "0")); err != nil {
		return err
	}
	return c.socket.Close()
}

func main() {
	path := os.Args[1]
	c, err := dial(path)
	if err != nil {
		fmt.Printf("not ok - go-wire: greeting: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("ok - go-wire: greeting: %+v\n", c.theirs)
	on := func(run func(*conn) error) func() error { return func() error { return run(c) } }
	check("unary, the path by its number", on(echoes))
	check("metadata, repeated and binary", on(metadata))
	check("a failure's status and trailers", on(trailers))
	check("an unknown method", on(unknownMethod))
	check("what differs from gRPC is spelled out", on(plain))
	check("a stream each way", on(conversation))
	check("flow control, both ways", on(flowControl))
	check("a reader that reads nothing", on(unread))
	check("cancel frees the slot", on(cancel))
	check("a deadline", on(deadline))
	check("64 calls at once", on(together))
	check("ping, and a kind of a later version", on(ping))
	check("files ride on their call, and what fails fails alone", func() error { return files(path) })
	check("a greeting of a later version", func() error { return later(path) })
	check("a violation", func() error { return violation(path) })
	check("drain", on(drain))
	if failed {
		os.Exit(1)
	}
}
