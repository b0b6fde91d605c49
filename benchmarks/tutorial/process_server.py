"""The tutorial's process server, its faults kept; its first printed line is ours."""

import multiprocessing
import socket
import sys


def serve_client(client, address):
    while True:
        data = client.recv(1024)
        if len(data) == 0:
            print("client gone:", address)
            client.close()
            break
        print("from", address, ":", data)
        client.send(data)


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", int(sys.argv[1])))
    server.listen(5)
    print(f"listening on 127.0.0.1:{server.getsockname()[1]}", flush=True)
    while True:
        client, address = server.accept()
        print("client:", address)
        child = multiprocessing.Process(target=serve_client, args=(client, address))
        child.start()


if __name__ == "__main__":
    main()
