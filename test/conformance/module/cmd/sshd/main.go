// Command sshd runs the commands that the suite sends to a node by SSH: as root, with the shell of where it was
// started. It takes any key: let it listen only where nobody else is.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"golang.org/x/crypto/ssh"
)

func main() {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	signer, err := ssh.NewSignerFromKey(key)
	check(err)
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", os.Args[1])
	check(err)
	for {
		conn, err := listener.Accept()
		check(err)
		go serve(conn, config)
	}
}

func serve(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		if channel, requests, err := offered.Accept(); err == nil {
			go session(channel, requests)
		}
	}
}

func session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for request := range requests {
		request.Reply(request.Type == "exec", nil)
		if request.Type != "exec" {
			continue
		}
		var payload struct{ Command string }
		check(ssh.Unmarshal(request.Payload, &payload))
		command := exec.Command("sh", "-c", payload.Command)
		// No standard input: nobody may ever close it.
		command.Stdout, command.Stderr = channel, channel.Stderr()
		status := uint32(0)
		var exit *exec.ExitError
		if err := command.Run(); errors.As(err, &exit) {
			status = uint32(exit.ExitCode())
		} else if err != nil {
			fmt.Fprintln(channel.Stderr(), err)
			status = 127
		}
		channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		return
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
