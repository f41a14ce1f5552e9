// Files that say who they are, and the messages that name them: one inode URL per line.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/edwarnicke/grpcfd"
)

// namedFile makes a file whose content is name, open for reading.
func namedFile(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// urlOf is how a message names the file.
func urlOf(file *os.File) (string, error) {
	url, err := grpcfd.FileToURL(file)
	if err != nil {
		return "", err
	}
	return url.String(), nil
}

// receive waits for the file of each URL and reads it. A file sent by name has no rights of its own: it is opened again.
func receive(ctx context.Context, from grpcfd.FDRecver, message []byte) ([]string, error) {
	var contents []string
	for _, url := range strings.Fields(string(message)) {
		files, err := from.RecvFileByURL(url)
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s never came: %w", url, ctx.Err())
		case file := <-files:
			content, err := contentOf(file)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", url, err)
			}
			contents = append(contents, content)
		}
	}
	return contents, nil
}

func contentOf(file *os.File) (string, error) {
	defer file.Close()
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return "", err
	}
	defer again.Close()
	content, err := io.ReadAll(again)
	return string(content), err
}
