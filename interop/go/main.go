// Talks to nigh through grpcfd, as client or as server: files named by inode URL, in unary calls and server streams.
//
//	interop certs DIR                 writes ca.pem, server.pem and server.key
//	interop client SOCKET [CA]        checks a nigh server; one line per check
//	interop server SOCKET [CERT KEY]  serves nigh's client until it is killed
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "certs":
		return writeCertificates(args[1])
	case len(args) >= 2 && len(args) <= 3 && args[0] == "client":
		return client(args[1], args[2:])
	case (len(args) == 2 || len(args) == 4) && args[0] == "server":
		return serve(args[1], args[2:])
	}
	return fmt.Errorf("usage: interop certs DIR | client SOCKET [CA] | server SOCKET [CERT KEY]")
}
