// A client's connection of the nigh wire: calls with their credit, one goroutine that reads.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// What this side takes; small, so that credit and long messages are seen at work.
var own = greeting{
	version: 1, frameBytes: 16 << 10, headerBytes: 16 << 10, streamWindow: 64 << 10, connectionWindow: 128 << 10,
}

type conn struct {
	socket net.Conn
	theirs greeting

	mu      sync.Mutex
	changed *sync.Cond
	credit  int64 // Clause 8.2, for what is sent.
	owed    uint32
	calls   map[uint32]*call
	// Clause 4.1: by slot, the last generation.
	generations map[uint32]uint32
	paths       map[string]uint32
	pongs       []string
	leaving     bool
	reason      string
	broken      error
}

type call struct {
	conn     *conn
	stream   uint32
	credit   int64
	owed     uint32
	head     []field
	http     int
	hasHead  bool
	inbox    []byte // Received and not consumed.
	partial  []byte // The beginning of a message.
	frames   int
	trailers []field
	ended    bool
}

func dial(path string) (*conn, error) {
	socket, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	c := &conn{socket: socket, calls: map[uint32]*call{}, generations: map[uint32]uint32{}, paths: map[string]uint32{}}
	c.changed = sync.NewCond(&c.mu)
	if _, err := socket.Write(own.encode()); err != nil {
		return nil, err
	}
	// Clause 2.1: no frame before the server's greeting.
	from := bufio.NewReader(socket)
	if c.theirs, err = readGreeting(from); err != nil {
		return nil, err
	}
	if c.theirs.version != 1 {
		return nil, fmt.Errorf("the server chose version %d", c.theirs.version)
	}
	c.credit = int64(c.theirs.connectionWindow)
	go c.read(from)
	return c, nil
}

func (c *conn) write(f frame) error {
	_, err := c.socket.Write(f.encode())
	return err
}

func (c *conn) read(from *bufio.Reader) {
	var err error
	for err == nil {
		var f frame
		if f, err = readFrame(from, 1<<20); err == nil {
			c.mu.Lock()
			err = c.handle(f)
			c.changed.Broadcast()
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	c.broken = err
	c.changed.Broadcast()
	c.mu.Unlock()
}

func (c *conn) handle(f frame) error {
	open := c.calls[f.stream]
	switch f.kind {
	case kindPing:
		return c.write(frame{kind: kindPong, content: f.content})
	case kindPong:
		c.pongs = append(c.pongs, string(f.content))
	case kindGoAway:
		c.leaving = true
		c.reason = fmt.Sprintf("%d %s", binary.LittleEndian.Uint32(f.content), f.content[4:])
	case kindWindow:
		more := int64(binary.LittleEndian.Uint32(f.content))
		if f.stream == 0 {
			c.credit += more
		} else if open != nil {
			open.credit += more
		}
	case kindData:
		if uint32(len(f.content)) > own.frameBytes {
			return fmt.Errorf("DATA of %d bytes", len(f.content))
		}
		if open == nil {
			// Clauses 4.5 and 8.5: thrown away, and so consumed.
			return c.consumed(nil, len(f.content))
		}
		open.frames++
		open.inbox = append(open.inbox, f.content...)
		if f.flags&flagEnd != 0 {
			open.end()
		}
	case kindHeaders, kindTrailers, kindCancel:
		if open != nil {
			return open.headers(f)
		}
	default:
		if f.kind < 128 {
			return fmt.Errorf("frame of kind %d", f.kind)
		}
	}
	return nil
}

func (o *call) headers(f frame) (err error) {
	r := reader{f.content}
	switch f.kind {
	case kindHeaders:
		o.hasHead, o.http = true, 200
		if f.flags&flagPlain != 0 {
			o.http = int(binary.LittleEndian.Uint16(r.rest))
			r.rest = r.rest[2:]
		}
		if o.head, err = r.fields(); err != nil {
			return err
		}
		if f.flags&flagEnd != 0 {
			o.trailers = o.head
			o.end()
		}
	case kindTrailers:
		if o.trailers, err = r.fields(); err != nil {
			return err
		}
		if len(f.content) == 0 { // Clause 6.4.
			o.trailers = []field{{"grpc-status", "0"}}
		}
		o.end()
	case kindCancel: // Clause 6.5.
		code := binary.LittleEndian.Uint32(r.rest)
		o.trailers = []field{{"grpc-status", strconv.Itoa(int(code))}, {"grpc-message", string(r.rest[4:])}}
		o.end()
	}
	return nil
}

// Clause 4.4: the call is over, its slot free.
func (o *call) end() {
	o.ended = true
	delete(o.conn.calls, o.stream)
}

// Gives credit back once half a window has gathered, clause 8.5.
func (c *conn) consumed(o *call, length int) error {
	c.owed += uint32(length)
	if c.owed >= own.connectionWindow/2 {
		content := binary.LittleEndian.AppendUint32(nil, c.owed)
		c.owed = 0
		if err := c.write(frame{kind: kindWindow, content: content}); err != nil {
			return err
		}
	}
	if o == nil || o.ended {
		return nil
	}
	o.owed += uint32(length)
	if o.owed >= own.streamWindow/2 {
		content := binary.LittleEndian.AppendUint32(nil, o.owed)
		o.owed = 0
		return c.write(frame{stream: o.stream, kind: kindWindow, content: content})
	}
	return nil
}

// Opens a call, clauses 4.1, 5.1 and 5.3. `plain` is a method, or nothing for gRPC's POST.
func (c *conn) open(plain, path string, fields []field, end bool) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slot := uint32(0)
	for c.inUse(slot) {
		slot++
	}
	if slot >= c.theirs.callsAtOnce {
		return nil, fmt.Errorf("%d calls are under way", slot)
	}
	generation := c.generations[slot]%0xffff + 1
	c.generations[slot] = generation
	o := &call{conn: c, stream: generation<<16 | slot, credit: int64(c.theirs.streamWindow)}
	f := frame{stream: o.stream, kind: kindHeaders}
	if plain != "" {
		f.flags |= flagPlain
		f.content = appendBytes(f.content, plain)
	}
	if end {
		f.flags |= flagEnd
	}
	number, known := c.paths[path]
	if !known && uint32(len(c.paths)) < c.theirs.pathsKept && len(path) <= 512 {
		number = uint32(len(c.paths) + 1)
		c.paths[path] = number
	}
	f.content = appendNumber(f.content, number)
	if !known {
		f.content = appendBytes(f.content, path)
	}
	f.content = appendFields(f.content, fields)
	c.calls[o.stream] = o
	return o, c.write(f)
}

func (c *conn) inUse(slot uint32) bool {
	for stream := range c.calls {
		if stream&0xffff == slot {
			return true
		}
	}
	return false
}

// Sends a message with gRPC's prefix; waits for credit, clause 8.2.
func (o *call) send(message []byte, end bool) error {
	body := append([]byte{0}, binary.BigEndian.AppendUint32(nil, uint32(len(message)))...)
	body = append(body, message...)
	for len(body) > 0 {
		o.conn.mu.Lock()
		for (o.credit <= 0 || o.conn.credit <= 0) && !o.ended && o.conn.broken == nil {
			o.conn.changed.Wait()
		}
		length := min(len(body), int(o.conn.theirs.frameBytes))
		o.credit -= int64(length)
		o.conn.credit -= int64(length)
		f := frame{stream: o.stream, kind: kindData, content: body[:length]}
		body = body[length:]
		if end && len(body) == 0 {
			f.flags = flagEnd
		}
		var err error
		if !o.ended {
			err = o.conn.write(f)
		}
		o.conn.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// The next message of the answer; nil at its end. Bytes are consumed as they are taken out, before their message is whole:
// a message may be longer than the window.
func (o *call) receive() ([]byte, error) {
	o.conn.mu.Lock()
	defer o.conn.mu.Unlock()
	for {
		if len(o.inbox) > 0 {
			length := len(o.inbox)
			o.partial = append(o.partial, o.inbox...)
			o.inbox = nil
			if err := o.conn.consumed(o, length); err != nil {
				return nil, err
			}
		}
		if len(o.partial) >= 5 {
			length := int(binary.BigEndian.Uint32(o.partial[1:])) + 5
			if len(o.partial) >= length {
				message := o.partial[5:length]
				o.partial = o.partial[length:]
				return message, nil
			}
		}
		if o.ended {
			if len(o.partial) > 0 {
				return nil, fmt.Errorf("the body ends %d bytes into a message", len(o.partial))
			}
			return nil, nil
		}
		if o.conn.broken != nil {
			return nil, o.conn.broken
		}
		o.conn.changed.Wait()
	}
}

// CANCEL, clause 9.3.
func (o *call) cancel() error {
	o.conn.mu.Lock()
	defer o.conn.mu.Unlock()
	o.end()
	return o.conn.write(frame{stream: o.stream, kind: kindCancel, content: []byte{1, 0, 0, 0}})
}

func (o *call) status() string {
	found := values(o.trailers, "grpc-status")
	if len(found) != 1 {
		return fmt.Sprint(found)
	}
	return found[0]
}

// Waits until something holds.
func (c *conn) until(holds func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !holds() {
		if c.broken != nil {
			return c.broken
		}
		c.changed.Wait()
	}
	return nil
}
